"""What steadygrad costs, measured beside what people use today."""
