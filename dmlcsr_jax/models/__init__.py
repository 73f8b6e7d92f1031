"""The network in flax.linen; everything outside this package sees parameter trees and functions."""

from dmlcsr_jax.models.dmlcsr import DMLCSR, build
from dmlcsr_jax.models.initial import initial_variables

__all__ = ["DMLCSR", "build", "initial_variables"]
