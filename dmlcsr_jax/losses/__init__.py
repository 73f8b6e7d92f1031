"""What is minimised: one file a term of the paper's total."""
