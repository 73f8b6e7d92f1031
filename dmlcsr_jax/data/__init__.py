"""Label sets, sources of photographs, the warp, and batches; nothing here needs JAX."""
