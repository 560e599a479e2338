"""Runs whose first steps poisoned them: what looking back would see, and what starting anew under a cap would do."""
