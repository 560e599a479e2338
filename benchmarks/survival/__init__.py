"""How many unstable trainings each way of clipping keeps alive, and what it does to stable ones."""
