"""Whether there can be an accelerator, told without the second that importing JAX takes."""

import importlib.metadata
import importlib.util
import os
import pkgutil


def may_have_accelerator() -> bool:
    """Returns whether JAX could find another device than the CPU: it needs a plugin for each.

    False also where `JAX_PLATFORMS` asks for the CPU.
    """
    if os.environ.get("JAX_PLATFORMS", "").strip().lower() == "cpu":
        return False
    if importlib.util.find_spec("libtpu"):
        return True
    if importlib.metadata.entry_points(group="jax_plugins"):
        return True
    plugins = importlib.util.find_spec("jax_plugins")
    return plugins is not None and any(pkgutil.iter_modules(plugins.submodule_search_locations))
