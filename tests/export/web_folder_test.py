"""The static page, in headless Chromium: what it makes of a photograph, and that it asks nobody."""

import functools
import http.server
import io
import pathlib
import shutil
import threading

import numpy as np
import PIL.Image
import pytest
from chromium import chromium, require_chromium

from dmlcsr_jax import FaceParser
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.export import web_folder
from dmlcsr_jax.export.web_folder import write_web_folder
from dmlcsr_jax.predict.networks import EXPORTED_DEFAULT

PORTRAIT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "astronaut.jpg"
MILLISECONDS = 120_000


@pytest.fixture(scope="module")
def parser():
    return FaceParser(backend="jax", faces="whole")


@pytest.fixture(scope="module")
def address(parser, tmp_path_factory):
    require_chromium()
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("page") / "web"
    weights = EXPORTED_DEFAULT.with_suffix(".safetensors")
    write_web_folder(f"{folder}/", EXPORTED_DEFAULT.read_bytes(), parser.metadata, weights)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(address):
    camera = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
    with chromium(*camera) as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """A visit; at its end nothing has been asked of another host, and nothing has failed."""
    page = browser.new_page(viewport={"width": 1000, "height": 1000})
    page.set_default_timeout(MILLISECONDS)
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(address)
    page.get_by_text("Ready.").wait_for()
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert not failed


def choose(page, image, name="photograph.png"):
    data = image
    if not isinstance(image, bytes):
        data = io.BytesIO()
        PIL.Image.fromarray(image).save(data, format="PNG")
        data = data.getvalue()
    file = {"name": name, "mimeType": "image/png", "buffer": data}
    page.set_input_files("#file", file)


def parsed(page, image):
    choose(page, image)
    height, width = image.shape[:2]
    page.get_by_text(f"Parsed {width} x {height} pixels").wait_for()


def download(page, button):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return np.asarray(PIL.Image.open(waiting.value.path()))


@pytest.mark.browser
@pytest.mark.parametrize("hw", [(512, 512), (300, 411)])
def test_its_label_map_is_that_of_predict(page, parser, hw):
    photograph = np.asarray(PIL.Image.open(PORTRAIT))[: hw[0], : hw[1]]
    parsed(page, photograph)
    label = download(page, "Save the label map")
    assert label.shape[:2] == hw
    expected = parser(photograph, faces="whole").label
    assert np.mean(label[..., 0] == expected) > 0.995
    share = 100 * np.mean(label[..., 0] == parser.label_set.classes.index("skin"))
    assert f"{share:.1f} %" in page.locator("#parts tr", has_text="skin").first.inner_text()


@pytest.mark.browser
def test_parts_are_switched_off_and_cut_out(page):
    photograph = np.asarray(PIL.Image.open(PORTRAIT))
    parsed(page, photograph)
    label = download(page, "Save the label map")[..., 0]
    page.get_by_label("hair", exact=True).uncheck()
    cut = download(page, "Save the parts alone")
    hair = FaceParser(backend="jax").label_set.classes.index("hair")
    kept = (label != 0) & (label != hair)
    np.testing.assert_array_equal(cut[..., 3] == 255, kept)
    np.testing.assert_array_equal(cut[kept][:, :3], photograph[kept])
    assert not cut[~kept].any()


@pytest.mark.browser
def test_what_is_no_picture_is_named_and_the_next_one_is_parsed(page):
    choose(page, b"no picture", "notes.png")
    page.get_by_text("notes.png is no picture that this browser reads.").wait_for()
    parsed(page, np.asarray(PIL.Image.open(PORTRAIT))[:200, :200])


@pytest.mark.browser
def test_the_cameras_picture_is_parsed(page):
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_text("Parsed 640 x 480 pixels").wait_for()
    assert page.locator("#video").is_hidden()


def test_without_npm_nothing_is_written(tmp_path, monkeypatch, parser):
    monkeypatch.setattr(web_folder.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="ONNX Runtime Web, which npm brings; install Node"):
        write_web_folder(f"{tmp_path / 'web'}/", b"model", parser.metadata)
    failing = tmp_path / "npm"
    failing.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(web_folder.shutil, "which", lambda name: str(failing))
    with pytest.raises(
        UserError, match=r"npm did not bring onnxruntime-web@.* \(no such package\)"
    ):
        write_web_folder(f"{tmp_path / 'web'}/", b"model", parser.metadata)
    assert not (tmp_path / "web").exists()
