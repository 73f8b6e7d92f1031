"""DML-CSR face parsing (arXiv 2203.14448, CVPR 2022) in JAX and Flax."""

__version__ = "0.1.0"
