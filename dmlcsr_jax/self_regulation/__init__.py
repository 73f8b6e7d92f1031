"""Cyclical self-regulation: the averaged teacher and its soft targets (arXiv 2203.14448, 3.4)."""
