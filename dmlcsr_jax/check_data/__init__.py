"""Reads a whole data set once and says what is wrong with it and what is in it."""
