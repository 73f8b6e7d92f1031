"""What this package uses of tensorboardX beside its documented writer: event files and protobufs.

The documented writer has a thread that waits for ever for room in its queue once a disk is full.
"""

import os
import time
from collections.abc import Mapping

import numpy as np
from tensorboardX import event_file_writer, record_writer, summary
from tensorboardX.proto import event_pb2, summary_pb2


def open_events(folder: str) -> event_file_writer.EventsWriter:
    """Makes an event file in a folder, local or remote, written by the thread that calls."""
    record_writer.directory_check(folder)
    return event_file_writer.EventsWriter(os.path.join(folder, "events"))


def session_start(step: int) -> event_pb2.Event:
    """Returns the event that hides what earlier files of the folder hold of `step` and later."""
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return event_pb2.Event(step=step, wall_time=time.time(), session_log=start)


def scalars(step: int, values: Mapping[str, float]) -> event_pb2.Event:
    """Returns an event with the numbers of a step."""
    points = [
        summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()
    ]
    content = summary_pb2.Summary(value=points)
    return event_pb2.Event(step=step, wall_time=time.time(), summary=content)


def picture(step: int, name: str, image: np.ndarray) -> event_pb2.Event:
    """Returns an event with a picture, uint8 `[H, W, 3]` RGB."""
    content = summary.image(name, image, dataformats="HWC")
    return event_pb2.Event(step=step, wall_time=time.time(), summary=content)
