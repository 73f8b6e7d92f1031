"""Orbax checkpoints: of a run, to go on with it; of a model, to evaluate, ship or fine-tune it."""
