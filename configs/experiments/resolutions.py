"""Resolutions: all depths of the encoder for the parsing head, beside edges that are fed back.

python -m dmlcsr_jax.experiments resolutions --root=FOLDER[,FOLDER...] --workdir=DIR
"""

from dmlcsr_jax.configs.experiments import base

BASELINE = "parsing"
RUNS = {
    "parsing": {},
    "edge_feedback": {"model.edge_feedback": True},
    "resolutions": {"model.multi_scale_parsing": True},
}


def get_config(run: str = ""):
    return base.run_config(RUNS, run)
