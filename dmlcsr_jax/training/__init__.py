"""What happens in a run, and when."""
