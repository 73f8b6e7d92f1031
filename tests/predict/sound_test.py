"""Overlays of videos that have sound."""

import numpy as np
import pytest
from chromium import chromium, require_chromium

from dmlcsr_jax.predict import sound

av = pytest.importorskip("av", reason="needs the extra video")

RATE = 48_000


def write_video(path, *, codec="aac", seconds=2.0, video_start=0.0, audio=True):
    """Writes frames of grey and, from second 0 on, a tone that grows; returns the tone."""
    time = np.arange(int(seconds * RATE)) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time) * time / seconds).astype(np.float32)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        track = out.add_stream(codec, rate=RATE, layout="mono") if audio else None
        for i in range(int(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * i, np.uint8))
            frame.pts = i + int(video_start * 10)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio:
            for start in range(0, len(tone), 1024):
                frame = av.AudioFrame.from_ndarray(
                    tone[None, start : start + 1024], format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = RATE, start
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return tone


def read_sound(path):
    """Returns `[N]`: the samples from the first frame of the video on, and the frames' number."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        samples = np.zeros(int((frames[-1].time + 1) * RATE), np.float32)
        for frame in frames:
            start = round(frame.time * RATE)
            data = frame.to_ndarray()[0]
            samples[start : start + len(data)] = data
    with av.open(str(path)) as container:
        return samples, sum(1 for _ in container.decode(video=0))


@pytest.fixture
def overlay(tmp_path):
    path = tmp_path / "overlay.mp4"
    write_video(path, audio=False)
    return path


def envelope(samples, seconds):
    return [np.abs(samples[int(t * RATE) : int((t + 0.1) * RATE)]).max() for t in seconds]


def test_an_overlay_has_the_sound_of_its_video(tmp_path, overlay):
    tone = write_video(tmp_path / "video.mp4")
    assert sound.add_sound(overlay, tmp_path / "video.mp4") is None
    samples, num_frames = read_sound(overlay)
    assert num_frames == 20
    at = np.arange(0.2, 1.8, 0.2)
    np.testing.assert_allclose(envelope(samples, at), envelope(tone, at), atol=0.03)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.mp4", "video.mp4"]


def test_sound_from_before_the_first_frame_is_left_out(tmp_path, overlay):
    tone = write_video(tmp_path / "late.mkv", video_start=0.5)
    assert sound.add_sound(overlay, tmp_path / "late.mkv") is None
    samples, _ = read_sound(overlay)
    at = np.arange(0.2, 1.2, 0.2)
    np.testing.assert_allclose(envelope(samples, at), envelope(tone, at + 0.5), atol=0.03)


def test_without_sound_or_the_package_an_overlay_stays_as_it_is(tmp_path, overlay, monkeypatch):
    write_video(tmp_path / "silent.mp4", audio=False)
    before = overlay.read_bytes()
    assert sound.add_sound(overlay, tmp_path / "silent.mp4") is None
    assert overlay.read_bytes() == before
    write_video(tmp_path / "loud.mp4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert sound.add_sound(overlay, tmp_path / "loud.mp4") is None
    assert overlay.read_bytes() == before


def test_a_device_is_not_opened_again(overlay, monkeypatch):
    monkeypatch.setattr("subprocess.run", None)
    before = overlay.read_bytes()
    assert sound.add_sound(overlay, "/dev/null") is None
    assert overlay.read_bytes() == before


def test_sound_that_cannot_be_copied_is_said_and_costs_nothing(tmp_path, overlay, monkeypatch):
    before = overlay.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    assert "Invalid data" in sound.add_sound(overlay, tmp_path / "broken.mp4")
    write_video(tmp_path / "video.mp4")
    monkeypatch.setattr(sound, "_MOST_SECONDS", 1e-3)
    assert "took more than" in sound.add_sound(overlay, tmp_path / "video.mp4")
    assert overlay.read_bytes() == before
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["broken.mp4", "overlay.mp4", "video.mp4"]


def test_the_command_keeps_the_sound(run, tmp_path):
    tone = write_video(tmp_path / "photos.mp4")
    status, _, errors = run(tmp_path / "photos.mp4", out=tmp_path / "out")
    assert status == 0, errors
    samples, num_frames = read_sound(tmp_path / "out" / "overlays" / "photos.mp4")
    assert num_frames == 20
    np.testing.assert_allclose(envelope(samples, [1.5]), envelope(tone, [1.5]), atol=0.03)


def test_a_browser_plays_overlay_and_sound(run, tmp_path):
    require_chromium()
    # Opus: Chromium itself, unlike Chrome, has no AAC.
    write_video(tmp_path / "photos.mkv", codec="libopus")
    assert run(tmp_path / "photos.mkv", out=tmp_path / "out")[0] == 0
    address = (tmp_path / "out" / "overlays" / "photos.mp4").as_uri()
    (tmp_path / "page.html").write_text(f'<video src="{address}"></video>')
    flags = ("--autoplay-policy=no-user-gesture-required", "--allow-file-access-from-files")
    with chromium(*flags) as browser:
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        played = page.evaluate(
            """async () => {
                const video = document.querySelector('video');
                const ended = new Promise((resolve, reject) => {
                    video.onended = resolve;
                    video.onerror = () => reject(video.error.message);
                });
                const tape = new AudioContext(), meter = tape.createAnalyser();
                tape.createMediaElementSource(video).connect(meter);
                meter.connect(tape.destination);
                const samples = new Float32Array(meter.fftSize);
                let loudest = 0;
                const listening = setInterval(() => {
                    meter.getFloatTimeDomainData(samples);
                    loudest = Math.max(loudest, ...samples.map(Math.abs));
                }, 50);
                await video.play();
                await ended;
                clearInterval(listening);
                return [video.videoWidth, video.videoHeight, video.duration, loudest];
            }"""
        )
    assert played[:2] == [32, 32]
    assert played[2] == pytest.approx(2, abs=0.2)
    assert played[3] > 0.2
