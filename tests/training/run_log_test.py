import collections
import io
import itertools
import json
import logging
import struct
import types

import numpy as np
import PIL.Image
import pytest
from tensorboardX import event_file_writer, record_writer
from tensorboardX.proto import event_pb2

from dmlcsr_jax import atomic_file
from dmlcsr_jax.training import run_log
from dmlcsr_jax.training.run_log import RunLog


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """Event files are named by the second; here each is of another one."""
    clock = itertools.count(1_700_000_000)
    fake = types.SimpleNamespace(time=lambda: next(clock))
    monkeypatch.setattr(event_file_writer, "time", fake)


def open_log(workdir, step=0, evaluated_step=0, teacher_step=0):
    return RunLog(workdir, step=step, evaluated_step=evaluated_step, teacher_step=teacher_step)


def lines(workdir):
    records = map(json.loads, (workdir / "scalars.jsonl").read_text().splitlines())
    return [(record["kind"], record["step"]) for record in records]


def events(path):
    """Yields the events of a file, a TFRecord each: length, check sum, data, check sum."""
    data = path.read_bytes()
    while data:
        length, length_sum = struct.unpack_from("<QI", data)
        record, (record_sum,) = data[12 : 12 + length], struct.unpack_from("<I", data, 12 + length)
        assert length_sum == record_writer.masked_crc32c(data[:8])
        assert record_sum == record_writer.masked_crc32c(record)
        yield event_pb2.Event.FromString(record)
        data = data[16 + length :]


def shown(workdir, kind):
    """Returns what TensorBoard shows of a run, tag to (step, value).

    As its `plugin_event_accumulator` does: each start of a session but the first hides what was
    written before of its step and later ones.
    """
    series = collections.defaultdict(list)
    num_starts = 0
    for path in sorted((workdir / "tensorboard" / kind).iterdir()):
        first, *others = events(path)
        assert first.file_version == "brain.Event:2"
        for event in others:
            if event.session_log.status == event_pb2.SessionLog.START:
                num_starts += 1
                if num_starts > 1:
                    for tag, points in series.items():
                        series[tag] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                is_image = value.WhichOneof("value") == "image"
                content = value.image.encoded_image_string if is_image else value.simple_value
                series[value.tag].append((event.step, content))
    return {tag: points for tag, points in series.items() if points}


def test_scalars_and_panels_are_read_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    log = open_log(tmp_path)
    log.scalars(1, "train", {"loss": 2.5, "grad_norm": float("nan")})
    log.scalars(2, "train", {"loss": np.float32(1.5), "grad_norm": 0.25})
    log.scalars(2, "student", {"classes/nose/f1": 0.5})
    log.panel(2, "panels", image)
    log.close()
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert records == [
        {"step": 1, "kind": "train", "loss": 2.5, "grad_norm": None},
        {"step": 2, "kind": "train", "loss": 1.5, "grad_norm": 0.25},
        {"step": 2, "kind": "student", "classes/nose/f1": 0.5},
    ]
    train = shown(tmp_path, "train")
    [(step, picture)] = train.pop("panels")
    assert step == 2
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(picture))), image)
    assert train == {"loss": [(1, 2.5), (2, 1.5)], "grad_norm": [(2, 0.25)]}
    assert shown(tmp_path, "student") == {"classes/nose/f1": [(2, 0.5)]}
    assert shown(tmp_path, "teacher") == {}


def test_events_are_on_disk_after_a_flush(tmp_path):
    log = open_log(tmp_path)
    log.scalars(1, "train", {"loss": 2.5})
    log.flush()
    assert shown(tmp_path, "train") == {"loss": [(1, 2.5)]}
    assert lines(tmp_path) == [("train", 1)]


def test_a_run_is_flushed_by_the_clock(tmp_path, monkeypatch):
    log = open_log(tmp_path)
    log.scalars(1, "train", {"loss": 2.5})
    assert not (tmp_path / "scalars.jsonl").exists()
    monkeypatch.setattr(run_log, "_FLUSH_SECONDS", 0)
    log.scalars(2, "train", {"loss": 1.5})
    assert shown(tmp_path, "train") == {"loss": [(1, 2.5), (2, 1.5)]}
    assert lines(tmp_path) == [("train", 1), ("train", 2)]


def write_steps(log, first, last, *, evaluated=(), teachers=(), loss=0.0):
    for step in range(first, last + 1):
        log.scalars(step, "train", {"loss": loss})
        for kind, at in (("student", evaluated), ("teacher", teachers)):
            if step in at:
                log.scalars(step, kind, {"mean_f1": loss})


def test_a_restart_repeats_no_step_and_loses_none(tmp_path):
    log = open_log(tmp_path)
    write_steps(log, 1, 7, evaluated=(4,), teachers=(3, 5), loss=1.0)
    log.panel(6, "panels", np.zeros((4, 4, 3), np.uint8))
    log.panel(7, "panels", np.zeros((4, 4, 3), np.uint8))
    log.close()
    # The checkpoint of step 6: the teacher of step 5 was made after the last evaluation.
    log = open_log(tmp_path, step=6, evaluated_step=4, teacher_step=5)
    write_steps(log, 7, 8, evaluated=(8,), loss=2.0)
    log.close()
    expected = {
        "train": [(step, 1.0 if step < 7 else 2.0) for step in range(1, 9)],
        "student": [(4, 1.0), (8, 2.0)],
        "teacher": [(3, 1.0), (5, 1.0)],
    }
    assert sorted(lines(tmp_path)) == sorted(
        (kind, step) for kind, points in expected.items() for step, _ in points
    )
    train = shown(tmp_path, "train")
    assert train["loss"] == expected["train"]
    assert [step for step, _ in train["panels"]] == [6]
    assert shown(tmp_path, "student") == {"mean_f1": expected["student"]}
    assert shown(tmp_path, "teacher") == {"mean_f1": expected["teacher"]}


def test_what_is_done_again_at_the_checkpoints_step_is_not_doubled(tmp_path):
    log = open_log(tmp_path)
    write_steps(log, 1, 4, evaluated=(4,), teachers=(4,), loss=1.0)
    log.panel(4, "panels", np.zeros((4, 4, 3), np.uint8))
    log.close()
    # Killed before either evaluation was saved, then between the two.
    for evaluated_step, kept in ((0, []), (4, [("student", 4)])):
        log = open_log(tmp_path, step=4, evaluated_step=evaluated_step)
        log.flush()
        assert lines(tmp_path) == [("train", step) for step in range(1, 5)] + kept
        if not evaluated_step:
            log.scalars(4, "student", {"mean_f1": 2.0})
        log.scalars(4, "teacher", {"mean_f1": 2.0})
        log.close()
    assert shown(tmp_path, "student") == {"mean_f1": [(4, 2.0)]}
    assert shown(tmp_path, "teacher") == {"mean_f1": [(4, 2.0)]}
    train = shown(tmp_path, "train")
    assert [step for step, _ in train["loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in train["panels"]] == [4]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    for loss in (1.0, 2.0):
        log = open_log(tmp_path)
        write_steps(log, 1, 3, evaluated=(2,), teachers=(3,), loss=loss)
        log.close()
    assert lines(tmp_path).count(("train", 1)) == 1
    assert shown(tmp_path, "train") == {"loss": [(1, 2.0), (2, 2.0), (3, 2.0)]}
    assert shown(tmp_path, "student") == {"mean_f1": [(2, 2.0)]}
    assert shown(tmp_path, "teacher") == {"mean_f1": [(3, 2.0)]}


@pytest.mark.parametrize("damage", [b'{"step": 2, "ki', b"\x00\x00\xff", b"[]", b'{"step": 2}'])
def test_damaged_lines_are_left_out_with_one_warning(tmp_path, caplog, damage):
    complete = b'{"step": 1, "kind": "train", "loss": 1.0}'
    (tmp_path / "scalars.jsonl").write_bytes(b"\n".join([damage, complete, damage]))
    with caplog.at_level(logging.WARNING):
        log = open_log(tmp_path, step=2)
    [record] = caplog.records
    assert "scalars.jsonl" in record.getMessage()
    log.close()
    assert (tmp_path / "scalars.jsonl").read_bytes() == complete + b"\n"


@pytest.mark.parametrize("num_written", [0, 1, 5, 8])
def test_the_run_goes_on_without_tensorboard_where_the_disk_is_full(
    tmp_path, caplog, monkeypatch, num_written
):
    real_write = record_writer.RecordWriter.write
    written = []

    def write(self, data):
        if len(written) == num_written:
            raise OSError(28, "No space left on device")
        written.append(data)
        real_write(self, data)

    monkeypatch.setattr(record_writer.RecordWriter, "write", write)
    with caplog.at_level(logging.WARNING):
        log = open_log(tmp_path)
        # More than the queue of tensorboardX's own writer holds.
        write_steps(log, 1, 100)
        log.panel(100, "panels", np.zeros((4, 4, 3), np.uint8))
        log.close()
    [record] = caplog.records
    assert "No space left on device" in record.getMessage()
    assert lines(tmp_path) == [("train", step) for step in range(1, 101)]


def test_the_run_goes_on_where_events_cannot_be_flushed(tmp_path, caplog, monkeypatch):
    def flush(self):
        raise RuntimeError("503 try again")

    log = open_log(tmp_path)
    monkeypatch.setattr(record_writer.RecordWriter, "flush", flush)
    with caplog.at_level(logging.WARNING):
        write_steps(log, 1, 3)
        log.flush()
        log.close()
    [record] = caplog.records
    assert "503 try again" in record.getMessage()
    assert lines(tmp_path) == [("train", 1), ("train", 2), ("train", 3)]


def test_the_run_goes_on_where_the_folder_of_events_cannot_be_made(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        log = open_log(tmp_path)
        write_steps(log, 1, 3)
        log.close()
    assert len(caplog.records) == 1
    assert lines(tmp_path) == [("train", 1), ("train", 2), ("train", 3)]


def test_a_record_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    log = open_log(tmp_path)
    write_steps(log, 1, 1)
    log.flush()

    def write(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_file, "write_bytes", write)
    write_steps(log, 2, 2)
    for act in (log.flush, log.close):
        with pytest.raises(OSError, match="No space left"):
            act()
    assert lines(tmp_path) == [("train", 1)]
