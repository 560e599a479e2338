"""What the guard costs inside each trainer."""
