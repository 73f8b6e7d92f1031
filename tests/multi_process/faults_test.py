"""What a run of several processes leaves where it fails."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from multi_process.runs import (
    ENVIRONMENT,
    NUM_STEPS,
    QUICK_COMPILATION,
    ROOT,
    SMALL,
    Run,
    assert_same_bits,
)
from ports import free_port

from dmlcsr_jax.checkpoints import model


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_batch_of_each_process(tmp_path, cache, uninterrupted):
    metadata, variables = model.load_model(uninterrupted(2)[0] / "teachers" / "2")
    logits = variables["params"]["parsing"]["logits"]
    # Finite, as a checkpoint's weights must be; their sums are not.
    logits["kernel"] = np.full_like(logits["kernel"], 3e38)
    model.save_model(tmp_path / "broken", metadata, **variables)
    broken = f"--config.model.init_from={tmp_path / 'broken'}"
    run = Run(tmp_path / "run", broken, processes=2, env=cache)
    assert run.wait() == [1, 1], run.output()
    for index, log in enumerate(run.logs):
        assert re.search(
            r"^error: .*not finite at step 1 .*cross_entropy nan", log.read_text(), re.M
        )
        with np.load(tmp_path / "run" / f"not_finite_step_1_process_{index}.npz") as batch:
            assert batch["image"].shape == (4, 64, 64, 3)
            assert batch["label"].shape == (4, 64, 64)
    assert not any((tmp_path / "run" / "checkpoints").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, cache, uninterrupted, processes):
    """In a namespace of its own, with a small disk that grows later."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("unshare may not make a mount namespace here")
    reference, _ = uninterrupted(processes)
    checkpoint = reference / "checkpoints" / str(NUM_STEPS)
    size = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    together = f"--num_processes={processes} --process_id=$i --coordinator_address=127.0.0.1:$1"
    run = f"""
    i=0
    while [ $i -lt {processes} ]; do
      "${{@:2}}" {together if processes > 1 else ""} 2>&1 &
      i=$((i + 1))
    done
    while true; do
      wait -n; status=$?
      [ $status -ne 127 ] || break
      echo; echo "status $status" # the line may hold a progress bar
    done
    """
    command = f"""
    mount -t tmpfs -o size={int(size * 1.6)} none {disk}
    {run}
    echo "then"
    mount -o remount,size=1g {disk}
    {run}
    cp -r {disk}/run {tmp_path}/run
    """
    environment = os.environ | cache | ENVIRONMENT | {"XLA_FLAGS": QUICK_COMPILATION}
    main = [sys.executable, "-m", "dmlcsr_jax.main", f"--workdir={disk}/run", *SMALL]
    result = subprocess.run(
        ["unshare", "-rm", "bash", "-c", command, "bash", str(free_port()), *main],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    full, grown = result.stdout.split("then\n")
    assert re.findall(r"^status (\d+)$", full, re.M) == ["1"] * processes, result.stdout
    assert re.findall(r"^status (\d+)$", grown, re.M) == ["0"] * processes, result.stdout
    # Of each its own sentence, or that the other has failed with this one.
    sentence = rf"{disk}/run: No space left on device; that of step \d+ is the newest .* make room"
    assert len(re.findall(sentence, full)) == processes, full
    assert full.count("error: ") == processes, full
    assert "Traceback" not in full, full
    assert_same_bits(tmp_path / "run", reference)
