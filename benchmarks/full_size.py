"""Parameters, FLOPs and memory of a paper config, compiled but not run.

    python benchmarks/full_size.py --config=configs/celebamask_hq.py --batch_size=1

Compiling the whole training step takes minutes on a CPU; what it needs on an accelerator is of the
same order but not the same.
"""

import argparse
import functools
import platform
import runpy

import jax
import numpy as np
import tabulate

from dmlcsr_jax.checkpoints import model as model_lib
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.evaluation import scores
from dmlcsr_jax.models import dmlcsr
from dmlcsr_jax.training import optimizer as optimizer_lib
from dmlcsr_jax.training import step as step_lib
from dmlcsr_jax.training.state import TrainState


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/celebamask_hq.py")
    parser.add_argument("--batch_size", type=int, default=1, help="images on the device")
    parser.add_argument("--dtype", default="float32", help="of the computation")
    args = parser.parse_args()
    config = runpy.run_path(args.config)["get_config"]()
    metadata = Metadata.from_config(config)
    model = dmlcsr.build_model(metadata, args.dtype)
    optimizer = optimizer_lib.optimizer(
        lambda step: 1e-3, config.optim.momentum, config.optim.weight_decay
    )
    size = metadata.image_size
    state = jax.eval_shape(
        functools.partial(TrainState.create, optimizer=optimizer),
        model_lib.abstract_variables(metadata, args.dtype),
    )
    images = jax.ShapeDtypeStruct((args.batch_size, size, size, 3), np.uint8)
    label = jax.ShapeDtypeStruct((args.batch_size, size, size), np.uint8)
    predict = scores.make_predict_fn(model, metadata)
    programs = {"prediction": predict.lower(state.student, images)}
    for name, self_regulated in (("training step", False), ("self-regulated step", True)):
        step = functools.partial(
            step_lib.train_step,
            model=model,
            optimizer=optimizer,
            schedule=lambda step: 1e-3,
            metadata=metadata,
            loss_weights=config.loss.weights,
            edge_width=config.loss.edge_width,
            self_regulated=self_regulated,
        )
        batch = {"image": images, "label": label}
        programs[name] = jax.jit(step, donate_argnums=0).lower(state, batch)
    rows = []
    for name, lowered in programs.items():
        compiled = lowered.compile()
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
    print(f"{args.config}: {count / 1e6:.2f} M parameters in training, batch {args.batch_size}")
    print(f"jax {jax.__version__} on {platform.processor() or platform.machine()}, {args.dtype}")
    headers = ["program", "GFLOP an image", "arguments GiB", "results GiB", "temporaries GiB"]
    print(tabulate.tabulate(rows, headers=headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
