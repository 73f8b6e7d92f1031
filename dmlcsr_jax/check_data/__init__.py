"""Checks a data set before training: bad files, absent classes, left and right."""
