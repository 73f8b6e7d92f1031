"""JAX's private interface is still there, and does what it did."""

import importlib
import os
import subprocess
import sys

import pytest

PROCESS = """
from dmlcsr_jax.distributed import jax_private, preemption

preemption.start_distributed()
assert (jax_private.process_id(), jax_private.num_processes()) == (0, 1)
assert jax_private.coordinator_address().startswith("localhost:")
for value in ("first", "second"):
    jax_private.set_value("folder/0", value)
jax_private.set_value("folder/1", "other")
jax_private.set_value("elsewhere/0", "not listed")
assert sorted(jax_private.values_below("folder")) == [
    ("folder/0", "second"),
    ("folder/1", "other"),
]
jax_private.wait_at_barrier("a barrier", 1000)
"""


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("jax._src.distributed", ["global_state"]),
        (
            "jax._src.distributed.global_state",
            ["client", "process_id", "num_processes", "coordinator_address"],
        ),
        (
            "jax._src.lib._jax.DistributedRuntimeClient",
            ["key_value_set", "key_value_dir_get", "wait_at_barrier"],
        ),
    ],
)
def test_the_private_names_are_there(module, names):
    found = importlib.import_module("jax._src")
    for part in module.split(".")[2:]:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    for name in names:
        assert hasattr(found, name), (
            f"{module}.{name} is gone: change dmlcsr_jax/distributed/jax_private.py"
        )


def test_values_are_stored_listed_and_replaced():
    result = subprocess.run(
        [sys.executable, "-c", PROCESS],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, (
        "change dmlcsr_jax/distributed/jax_private.py for this JAX:\n" + result.stderr
    )
