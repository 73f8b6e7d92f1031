import colour_network
import cv2
import numpy as np
import PIL.Image
import pytest
from colour_network import interior, picture, truth

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


def test_without_overlay_only_label_maps_are_written(parser, reader, path, tmp_path):
    video.parse_video(parser, reader, path, tmp_path / "labels", None)
    assert len(list((tmp_path / "labels").iterdir())) == 11
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "v.mp4"]


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
