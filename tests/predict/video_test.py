import contextlib

import colour_network
import cv2
import numpy as np
import PIL.Image
import pytest
from colour_network import interior, picture, truth
from prediction_files import read_label

from dmlcsr_jax.data.decode_video import VideoInfo
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import outputs, video
from dmlcsr_jax.predict.face_parser import FaceParser
from dmlcsr_jax.predict.reader import Reader

CELLS = np.array([[1, 2, 3, 4], [5, 6, 7, 1], [2, 3, 1, 4]])


@pytest.fixture
def parser(monkeypatch):
    colour_network.install(monkeypatch.setattr)
    return FaceParser("any", batch_size=4)


@pytest.fixture(scope="module")
def reader():
    with DecoderPool(Limits(), 1) as pool:
        yield Reader(pool, memory_bytes=2**30, num_at_a_time=8)


@pytest.fixture
def path(tmp_path):
    """Eleven frames of 64x48 pixels at 12 a second, the cells moving on by one each frame."""
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, (64, 48))
    for i in range(11):
        writer.write(picture(np.roll(CELLS, i, axis=1))[..., ::-1].copy())
    writer.release()
    return path


def test_every_frame_gets_its_label_map_and_is_in_the_overlay(parser, reader, path, tmp_path):
    frames, announced = [], []
    count = video.parse_video(
        parser,
        reader,
        path,
        tmp_path / "labels" / "v.mp4",
        tmp_path / "overlays" / "v.mp4",
        overlay_alpha=1.0,
        on_start=announced.append,
        on_frame=lambda: frames.append(1),
    )
    assert count == len(frames) == 11
    assert announced == [11]
    files = sorted(path.name for path in (tmp_path / "labels" / "v.mp4").iterdir())
    assert files == [f"{i:06d}.png" for i in range(11)]
    inside = interior(CELLS, margin=5)
    capture = cv2.VideoCapture(str(tmp_path / "overlays" / "v.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 12
    for i, name in enumerate(files):
        label = np.asarray(PIL.Image.open(tmp_path / "labels" / "v.mp4" / name))
        expected = truth(np.roll(CELLS, i, axis=1))
        np.testing.assert_array_equal(label[inside], expected[inside])
        is_read, frame = capture.read()
        assert is_read
        palette = np.array(colour_network.LABEL_SET.palette)[expected]
        difference = np.abs(frame[..., ::-1].astype(int) - palette)[inside]
        assert np.median(difference) < 20
    assert not capture.read()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "overlays", "v.mp4"]
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["v.mp4"]


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (47, 63)])
def test_overlays_of_any_size_are_vp9_which_browsers_play(parser, tmp_path, hw):
    frames = Frames([np.full((*hw, 3), 90, np.uint8)] * 3, 2)
    video.parse_video(parser, frames, "any.mp4", tmp_path / "labels", tmp_path / "overlay.mp4")
    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert codec in (b"VP90", b"vp09")
    shapes = []
    while (read := capture.read())[0]:
        shapes.append(read[1].shape[:2])
    # Sides that an encoder takes.
    assert shapes == [tuple(side + side % 2 for side in hw)] * 3
    assert read_label(tmp_path / "labels/000002.png").shape == hw


@pytest.mark.parametrize("codecs", [("none", "mp4v"), ("none",)])
def test_an_opencv_without_vp9_is_said(parser, tmp_path, monkeypatch, capfd, codecs):
    monkeypatch.setattr(video, "_CODECS", codecs)
    frames = Frames([np.zeros((8, 8, 3), np.uint8)], 2)
    paths = tmp_path / "labels", tmp_path / "overlay.mp4"
    if len(codecs) == 2:
        video.parse_video(parser, frames, "any.mp4", *paths)
        assert "overlay.mp4 is MPEG-4, which browsers do not play" in capfd.readouterr().err
        assert all(path.exists() for path in paths)
        return
    with pytest.raises(UserError, match="no mp4 of 8x8 pixels; use --no_overlay") as error:
        video.parse_video(parser, frames, "any.mp4", *paths)
    assert not outputs.ends_the_run(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_another_process_labels_is_refused(parser, reader, path, tmp_path):
    paths = tmp_path / "labels" / "v.mp4", tmp_path / "overlays" / "v.mp4"

    def other():
        with pytest.raises(UserError, match="being written by another process"):
            video.parse_video(parser, reader, path, *paths)

    left = tmp_path / "labels" / ".v.mp4.part"
    left.mkdir(parents=True)
    (left / "000099.png").write_bytes(b"of a run that was killed")
    assert video.parse_video(parser, reader, path, *paths, on_start=lambda _: other()) == 11
    assert len(list(paths[0].iterdir())) == 11
    assert cv2.VideoCapture(str(paths[1])).get(cv2.CAP_PROP_FRAME_COUNT) == 11
    assert sorted(p.name for p in tmp_path.rglob(".*")) == []


def test_without_overlay_only_label_maps_are_written(parser, reader, path, tmp_path):
    video.parse_video(parser, reader, path, tmp_path / "labels", None)
    assert len(list((tmp_path / "labels").iterdir())) == 11
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "v.mp4"]


class Frames:
    """Frames that wait for no decoder, and are parsed one or a few at a time."""

    def __init__(self, frames, num_at_a_time):
        self._frames, self._num_at_a_time = frames, num_at_a_time

    @contextlib.contextmanager
    def video(self, path):
        yield VideoInfo(self._frames[0].shape[:2], 12, len(self._frames)), iter(self._frames)

    def frames_at_a_time(self, info):
        return self._num_at_a_time


@pytest.mark.parametrize("num_at_a_time", [1, 3, 100])
def test_frames_are_held_steady_however_few_wait(parser, tmp_path, num_at_a_time):
    # Between the colours of 1 and 4, by turns a little nearer to one of them; at last 3's.
    colours = (255, 127, 0), (255, 128, 0), colour_network.COLOURS[3]
    one, four, last = (np.full((48, 64, 3), colour, np.uint8) for colour in colours)
    frames = Frames([*[four, one] * 3, *[one, four] * 3, last], num_at_a_time)
    found = []
    for steady in (True, False):
        labels = tmp_path / f"labels{steady}"
        video.parse_video(parser, frames, "any.mp4", labels, None, steady=steady)
        found.append([int(read_label(path)[24, 32]) for path in sorted(labels.iterdir())])
    assert found[0] == [*[4] * 12, 3]
    assert found[1] == [*[4, 1] * 3, *[1, 4] * 3, 3]


@pytest.mark.parametrize("kept", [0, 700])
def test_damaged_video_is_named_and_leaves_nothing(parser, reader, path, tmp_path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    outputs_ = tmp_path / "labels" / "v", tmp_path / "overlays" / "v.mp4"
    with pytest.raises(UserError, match=r"v\.mp4"):
        video.parse_video(parser, reader, path, *outputs_)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file != path]


def test_output_that_cannot_be_written_is_told_apart(parser, reader, path, tmp_path, monkeypatch):
    def full_disk(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs.atomic_file, "write_bytes", full_disk)
    with pytest.raises(outputs.OutputError, match="No space left on device"):
        video.parse_video(parser, reader, path, tmp_path / "labels", None)
    assert not (tmp_path / "labels").exists()


def test_remote_video_is_refused(parser, reader, tmp_path):
    with pytest.raises(UserError, match="remote"):
        video.parse_video(parser, reader, "gs://bucket/v.mp4", tmp_path / "labels", None)


def test_pictures_that_move_are_labelled_frame_by_frame(run, tmp_path):
    colours = [picture([[i]], cell=32) for i in (1, 2, 3)]
    first, *rest = map(PIL.Image.fromarray, colours)
    (tmp_path / "photos").mkdir()
    for name, options in (("a.gif", {}), ("b.webp", {"lossless": True})):
        path = tmp_path / "photos" / name
        first.save(path, save_all=True, append_images=rest, duration=100, **options)
    first.save(tmp_path / "photos/c.gif")
    status, output, errors = run(tmp_path / "photos", out=tmp_path / "out")
    assert status == 0, errors
    assert "3 labelled" in output
    for name in ("a.gif", "b.webp"):
        folder = tmp_path / "out/labels" / name
        labels = [np.unique(read_label(file)).tolist() for file in sorted(folder.iterdir())]
        assert labels == [[1], [2], [3]]
        assert (tmp_path / "out/overlays" / name).with_suffix(".mp4").exists()
    assert np.unique(read_label(tmp_path / "out/labels/c.png")).tolist() == [1]
