"""Drawn faces, for tests and for training without data."""

from dmlcsr_jax.data.synthetic.drawing import draw_face
from dmlcsr_jax.data.synthetic.source import SyntheticSource

__all__ = ["SyntheticSource", "draw_face"]
