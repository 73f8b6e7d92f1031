"""DML-CSR face parsing (arXiv 2203.14448, CVPR 2022) in JAX and Flax."""

__version__ = "0.1.0"
__all__ = ["FaceParser", "__version__", "load"]


def __getattr__(name: str):
    """Imports `FaceParser` or `load` where it is asked for: they import OpenCV, JAX and more."""
    if name == "FaceParser":
        from dmlcsr_jax.predict import FaceParser

        return FaceParser
    if name == "load":
        from dmlcsr_jax.predict.pure_function import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
