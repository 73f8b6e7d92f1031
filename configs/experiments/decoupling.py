"""Decoupling: edges that only train the encoder, or are fed back (arXiv 2203.14448, section 3.1).

python -m dmlcsr_jax.experiments decoupling --root=FOLDER[,FOLDER...] --workdir=DIR
"""

from dmlcsr_jax.configs.experiments import base

BASELINE = "decoupled"
RUNS = {"decoupled": {}, "fed_back": {"model.edge_feedback": True}}


def get_config(run: str = ""):
    return base.run_config(RUNS, run)
