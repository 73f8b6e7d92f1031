"""tensorboardX's private interface is still there, and does what it did."""

import importlib
import os

import numpy as np
import pytest

from dmlcsr_jax.training import tensorboard_private


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("tensorboardX.record_writer", ["directory_check"]),
        ("tensorboardX.event_file_writer", ["EventsWriter"]),
        ("tensorboardX.summary", ["image"]),
        ("tensorboardX.proto.event_pb2", ["Event", "SessionLog"]),
        ("tensorboardX.proto.summary_pb2", ["Summary"]),
    ],
)
def test_the_private_names_are_there(module, names):
    found = importlib.import_module(module)
    for name in names:
        assert hasattr(found, name), (
            f"{module}.{name} is gone: change dmlcsr_jax/training/tensorboard_private.py"
        )


def test_events_are_written_by_the_thread_that_calls(tmp_path):
    writer = tensorboard_private.open_events(os.fspath(tmp_path / "train"))
    [path] = (tmp_path / "train").iterdir()
    size = 0
    for event in (
        tensorboard_private.session_start(3),
        tensorboard_private.scalars(3, {"loss": 0.5}),
        tensorboard_private.picture(3, "panels", np.zeros((4, 4, 3), np.uint8)),
    ):
        assert event.step == 3
        assert event.wall_time > 1.7e9
        writer.write_event(event)
        writer.flush()
        assert path.stat().st_size > size
        size = path.stat().st_size
    writer.close()
