"""The network in flax.linen; everything outside this package sees parameter trees and functions.

What describes a network, `metadata` and `properties`, is imported without flax.
"""

import importlib

_MODULES = {"DMLCSR": "dmlcsr", "build_model": "dmlcsr", "initial_variables": "initial"}

__all__ = list(_MODULES)


def __getattr__(name: str):
    """Imports what the package exports when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
