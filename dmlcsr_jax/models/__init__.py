"""The network in flax.linen; everything outside this package sees parameter trees and functions."""

from dmlcsr_jax.models.dmlcsr import DMLCSR, build

__all__ = ["DMLCSR", "build"]
