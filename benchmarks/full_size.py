"""Parameters, FLOPs and memory of a paper config, compiled but not run.

    python -m benchmarks.full_size --config=configs/celebamask_hq.py --batch_size=1

from the repository's root. Compiling a full-size training step takes minutes on a CPU; what it
needs on an accelerator is of the same order but not the same.
"""

import argparse
import functools
import platform
import runpy
from collections.abc import Sequence

import jax
import numpy as np
import tabulate

from dmlcsr_jax.checkpoints.model import abstract_variables
from dmlcsr_jax.models import build_model, scores
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training import optimizer as optimizer_lib
from dmlcsr_jax.training.state import TrainState
from dmlcsr_jax.training.step import train_step

PROGRAMS = ("prediction", "training_step", "self_regulated_step")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/celebamask_hq.py", help="file of a config")
    parser.add_argument("--image_size", type=int, help="side of the input (the config's)")
    parser.add_argument("--batch_size", type=int, default=1, help="images on the device")
    parser.add_argument("--dtype", default="float32", help="of the computation")
    parser.add_argument("--programs", nargs="+", default=PROGRAMS, choices=PROGRAMS)
    args = parser.parse_args(argv)
    config = runpy.run_path(args.config)["get_config"]()
    config.data.image_size = args.image_size or config.data.image_size
    metadata = Metadata.from_config(config)
    model = build_model(metadata, args.dtype)
    optimizer = optimizer_lib.optimizer(
        lambda step: 1e-3, config.optim.momentum, config.optim.weight_decay
    )
    size = metadata.image_size
    state = jax.eval_shape(
        functools.partial(TrainState.create, optimizer=optimizer),
        abstract_variables(metadata, args.dtype),
    )
    images = jax.ShapeDtypeStruct((args.batch_size, size, size, 3), np.uint8)
    label = jax.ShapeDtypeStruct((args.batch_size, size, size), np.uint8)
    predict = scores.make_predict_fn(model, metadata)
    programs = {"prediction": predict.lower(state.eval_variables, images)}
    for name in PROGRAMS[1:]:
        step = functools.partial(
            train_step,
            model=model,
            optimizer=optimizer,
            schedule=lambda step: 1e-3,
            metadata=metadata,
            loss_weights=config.loss.weights,
            edge_width=config.loss.edge_width,
            self_regulated=name == "self_regulated_step",
        )
        batch = {"image": images, "label": label}
        programs[name] = jax.jit(step, donate_argnums=0).lower(state, batch)
    rows = []
    for name in args.programs:
        compiled = programs[name].compile()
        memory = compiled.memory_analysis()
        rows.append(
            [
                name,
                compiled.cost_analysis()["flops"] / args.batch_size / 1e9,
                (memory.argument_size_in_bytes - memory.alias_size_in_bytes) / 2**30,
                memory.output_size_in_bytes / 2**30,
                memory.temp_size_in_bytes / 2**30,
            ]
        )
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(f"{args.config}: {count / 1e6:.2f} M parameters in training")
    print(f"batch {args.batch_size}, {size}x{size} pixels")
    print(f"jax {jax.__version__} on {platform.processor() or platform.machine()}, {args.dtype}")
    headers = ["program", "GFLOP an image", "arguments GiB", "results GiB", "temporaries GiB"]
    print(tabulate.tabulate(rows, headers=headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
