"""What a network makes of photographs."""

__all__ = ["FaceParser"]


def __getattr__(name: str):
    """Imports `FaceParser` where it is asked for: it brings OpenCV and more."""
    if name == "FaceParser":
        from dmlcsr_jax.predict.face_parser import FaceParser

        return FaceParser
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
