"""Every split over processes and devices gives the same run."""

import json
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from multi_process.runs import NUM_STEPS, Fault, Run, assert_close


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "rate", "relative", "momentum"),
    [("float32", 1e-5, 1e-3, 1e-2), ("float64", 1e-2, 1e-8, 1e-8)],
)
def test_every_layout_gives_the_same_run(tmp_path, cache, dtype, rate, relative, momentum):
    env = cache | {"JAX_ENABLE_X64": str(int(dtype == "float64"))}
    for processes, devices in ((1, 1), (1, 8), (2, 1), (2, 4)):
        Run(
            tmp_path / f"{processes}x{devices}",
            f"--config.model.dtype={dtype}",
            f"--config.optim.learning_rate={rate}",
            processes=processes,
            devices=devices,
            env=env,
        ).finish()
    for layout in ("1x8", "2x1", "2x4"):
        assert_close(tmp_path / layout, tmp_path / "1x1", relative, momentum)
        metrics = [
            json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("1x1", layout)
        ]
        assert metrics[0]["num_images"] == metrics[1]["num_images"] == 5
        assert metrics[1]["pixel_accuracy"] == pytest.approx(
            metrics[0]["pixel_accuracy"], abs=relative
        )


def arrays_and_their_splits(workdir, step) -> dict:
    """Returns name to shape and saved partition of every array of the model and the momentum."""
    found = {}
    for item in ("model", "train"):
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata(workdir / "checkpoints" / str(step) / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree.item_metadata.tree):
            split = leaf.sharding.partition_spec
            found[f"{item}{jax.tree_util.keystr(path)}"] = leaf.shape, "data" in str(split)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 2), (2, 4)])
def test_a_sharded_run_is_the_replicated_one(tmp_path, cache, processes, devices):
    """Interrupted on the way; the width is such that most arrays are large enough to be split."""
    wide, fsdp = "--config.model.width=1", "--config.mesh.fsdp=True"
    layout = {"processes": processes, "devices": devices, "env": cache}
    Run(tmp_path / "replicated", wide, **layout).finish()
    fault = Fault(9, signal.SIGTERM, (0,))
    Run(tmp_path / "sharded", wide, fsdp, fault=fault, **layout).finish_preempted()
    Run(tmp_path / "sharded", wide, fsdp, **layout).finish()
    assert_close(tmp_path / "sharded", tmp_path / "replicated", 1e-3, 1e-2)
    for name, is_split in (("sharded", True), ("replicated", False)):
        arrays = arrays_and_their_splits(tmp_path / name, NUM_STEPS)
        sizes = {array: int(np.prod(shape)) for array, (shape, _) in arrays.items()}
        split = {array for array, (_, has_data) in arrays.items() if has_data}
        assert bool(split) == is_split
        if is_split:
            # Parameters, momentum and teacher alike.
            for part in ("['params']", "trace", "['teacher']"):
                total = sum(sizes[array] for array in sizes if part in array)
                assert sum(sizes[array] for array in split if part in array) > 0.8 * total, part


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [((2, 1), (1, 1)), ((1, 1), (2, 1)), ((1, 2), (2, 4))]
)
def test_a_run_goes_on_with_other_processes_and_devices(
    tmp_path, cache, uninterrupted, before, after
):
    workdir = tmp_path / "run"
    fault = Fault(7, signal.SIGTERM, (0,))
    Run(workdir, processes=before[0], devices=before[1], env=cache, fault=fault).finish_preempted()
    saved = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert 0 < saved < NUM_STEPS
    Run(workdir, processes=after[0], devices=after[1], env=cache).finish()
    # Data are a function of the step: no example is read twice or left out.
    assert_close(workdir, uninterrupted(1)[0], 1e-3)
