"""What a network makes of photographs."""

from dmlcsr_jax.predict.face_parser import FaceParser

__all__ = ["FaceParser"]
