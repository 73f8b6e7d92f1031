"""Makes the runs of an experiment, of which docs/evidence.md shows the figures.

    python -m dmlcsr_jax.experiments NAME --root=FOLDER[,FOLDER...] --workdir=DIR

Each run is a training run of its own, by `--config=experiments/NAME:RUN-SEED`, and leaves a small
file DIR/records/NAME/RUN-SEED.json. Started again, the same command goes on where it was.
`python -m docs.draw_evidence` then draws tables and plots.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from dmlcsr_jax.errors import exit_on_user_error
from dmlcsr_jax.experiments.campaign import NAMES, run_campaign


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", choices=NAMES, help="the experiment")
    parser.add_argument("--root", required=True, help="folders of photographs with label maps")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="of the runs")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder of the records, which are not made again (default: WORKDIR/records)",
    )
    parser.add_argument("--only", default="", help="runs whose names begin so; default: all")
    given = parser.parse_args(argv)
    out = given.out or given.workdir / "records"
    return run_campaign(given.name, given.root, given.workdir, out, only=given.only)


if __name__ == "__main__":
    sys.exit(main())
