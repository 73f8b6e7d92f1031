"""Memory of programs that run on the CPU itself."""

import ctypes

import jax

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed_memory() -> None:
    """Lets a process that trains on CPUs keep the memory that it frees.

    Each call of a program takes its hundreds of megabytes anew. By default they go back to the
    system after it, to be mapped and zeroed page by page in the next: a fifth of a step's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and jax.default_backend() == "cpu":
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never
        mallopt(_M_ARENA_MAX, 1)
