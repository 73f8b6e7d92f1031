"""The network in flax.linen; everything outside this package sees parameter trees and functions."""

from dmlcsr_jax.models.dmlcsr import DMLCSR, build_model
from dmlcsr_jax.models.initial import initial_variables

__all__ = ["DMLCSR", "build_model", "initial_variables"]
