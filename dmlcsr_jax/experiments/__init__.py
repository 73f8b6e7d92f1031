"""Campaigns of training runs, the evidence for what each part of the method does."""
