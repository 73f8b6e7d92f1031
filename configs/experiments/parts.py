"""Parts: what each part of the method adds (arXiv 2203.14448, section 4.4).

python -m dmlcsr_jax.experiments parts --root=FOLDER[,FOLDER...] --workdir=DIR
"""

from dmlcsr_jax.configs.experiments import base

_NO_EDGES = base.NO_BINARY_EDGE | base.NO_CATEGORY_EDGE | base.NO_ATTENTION

BASELINE = "parsing"
RUNS = {
    "parsing": _NO_EDGES | {"model.dual_graph": False},
    "dual_graph": _NO_EDGES,
    "binary_edge": base.NO_CATEGORY_EDGE | base.NO_ATTENTION,
    "category_edge": base.NO_ATTENTION,
    "attention": {},
    "csr": base.CYCLES,
    "csr_half": {"csr.start_epoch": base.NUM_EPOCHS // 2},
    "csr_low": base.CYCLES | {"csr.restart_factor": 0.1},
    "csr_high": base.CYCLES | {"csr.restart_factor": 1.0},
}


def get_config(run: str = ""):
    return base.run_config(RUNS, run)
