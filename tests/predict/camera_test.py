"""A webcam's device file; a video file plays the part of the device."""

import os
import signal

import cv2
import numpy as np
import pytest
from colour_network import picture
from prediction_files import files_below

from dmlcsr_jax.predict import camera, photographs
from dmlcsr_jax.predict.camera import Camera


@pytest.fixture
def device(tmp_path, monkeypatch):
    path = tmp_path / "dev" / "video0"
    path.parent.mkdir()
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), codec, 12.0, (64, 48))
    for _ in range(20):
        writer.write(picture(np.full((3, 4), 2))[..., ::-1])
    writer.release()
    (tmp_path / "a.mp4").rename(path)
    for module in (camera, photographs):
        monkeypatch.setattr(module, "is_camera", lambda other: os.fspath(other) == str(path))
    return path


def test_a_webcam_is_labelled_up_to_the_limit_and_not_written_over(run, device, tmp_path):
    status, output, _ = run(device, "--max_frames=6", out=tmp_path / "out")
    assert status == 0
    assert "1 labelled" in output
    expected = {f"labels/video0/{i:06d}.png" for i in range(6)} | {"overlays/video0.mp4"}
    assert expected <= set(files_below(tmp_path / "out"))
    assert "labels/video0/000006.png" not in files_below(tmp_path / "out")
    status, _, errors = run(device, "--max_frames=6", out=tmp_path / "out")
    assert status == 1
    assert "earlier recording; give another --out" in errors


def test_ctrl_c_ends_the_frames_and_the_next_one_the_program(device):
    before = signal.getsignal(signal.SIGINT)
    with Camera(100).video(device) as (info, frames):
        assert info.hw == (48, 64)
        assert info.fps == 12
        seen = 0
        for frame in frames:
            assert frame.shape == (48, 64, 3)
            seen += 1
            if seen == 3:
                os.kill(os.getpid(), signal.SIGINT)
        assert seen == 3
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_webcam_without_a_picture_is_named(run, device, tmp_path):
    device.write_bytes(b"")
    status, _, errors = run(device, out=tmp_path / "out")
    assert status == 1
    assert f"{device} gives no picture" in errors
    assert not (tmp_path / "out/labels").exists() or not list((tmp_path / "out/labels").iterdir())


@pytest.mark.parametrize("path", ["/dev/null", "/dev/video99999", "/dev/video0/..", "video0"])
def test_other_files_are_no_webcams(path):
    assert not camera.is_camera(path)
