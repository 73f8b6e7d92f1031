"""The page in headless Chromium: what a visitor does, and that no request leaves the machine."""

import importlib.util
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import numpy as np
import PIL.Image
import pytest
from chromium import chromium, require_chromium

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "docs" / "astronaut.jpg"
SECONDS = 60


@pytest.fixture(scope="module")
def address():
    """The page of the shipped model with a low limit, and that its end leaves nothing behind."""
    require_chromium()
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs pip install -e '.[browser]'")
    folders = set(pathlib.Path(tempfile.gettempdir()).glob("dmlcsr_jax_demo_*"))
    command = [sys.executable, "-m", "dmlcsr_jax.demo", "--max_file_bytes=400000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        line = process.stdout.readline()
        assert "the page is at http://127.0.0.1:" in line
        yield re.search(r"http://\S+", line)[0]
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert set(pathlib.Path(tempfile.gettempdir()).glob("dmlcsr_jax_demo_*")) <= folders


@pytest.fixture(scope="module")
def browser(address):
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """A visit, the portrait parsed; at its end no request has gone anywhere but to the page."""
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    page.set_default_timeout(SECONDS * 1000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#overlay img")
    yield page
    if "DMLCSR_SCREENSHOTS" in os.environ:
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split()[0]
        page.screenshot(path=pathlib.Path(os.environ["DMLCSR_SCREENSHOTS"]) / f"{name}.png")
    page.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def download(page, button):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return np.asarray(PIL.Image.open(waiting.value.path()))


def wait_for_a_new_overlay(page, action):
    before = page.get_attribute("#overlay img", "src")
    action()
    page.wait_for_function(
        "old => { const i = document.querySelector('#overlay img'); return i && i.src !== old }",
        arg=page.evaluate("old => new URL(old, document.baseURI).href", before),
    )


def upload(page, name, data):
    remove = page.get_by_role("button", name="Remove Image")
    if remove.count():
        remove.click()
        page.wait_for_selector("#overlay img", state="detached")
    page.set_input_files(
        "#photograph input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data}
    )


def png(image):
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, format="PNG")
    return data.getvalue()


@pytest.mark.browser
def test_an_uploaded_photograph_gets_the_label_map_that_predict_gives(page):
    from dmlcsr_jax import FaceParser

    photograph = np.asarray(PIL.Image.open(PORTRAIT).crop((100, 0, 356, 256)))
    upload(page, "cropped.png", png(photograph))
    page.wait_for_selector("#overlay img")
    label = download(page, "Label map")
    expected = FaceParser()(photograph)
    np.testing.assert_array_equal(label, expected.label)
    page.get_by_text(str(expected.area["hair"]), exact=True).first.wait_for()


@pytest.mark.browser
def test_parts_are_switched_off_and_cut_out(page):
    label = download(page, "Label map")
    boxes = page.get_by_role("checkbox")
    wait_for_a_new_overlay(page, lambda: boxes.first.uncheck())
    wait_for_a_new_overlay(page, lambda: page.get_by_label("hair", exact=True).check())
    cut = download(page, "Cut-out")
    hair = 13
    np.testing.assert_array_equal(cut[..., 3] == 255, label == hair)
    photograph = np.asarray(PIL.Image.open(PORTRAIT))
    np.testing.assert_array_equal(cut[label == hair, :3], photograph[label == hair])
    assert not cut[label != hair].any()


@pytest.mark.browser
def test_a_damaged_file_is_named_and_the_next_one_is_parsed(page):
    whole = png(np.asarray(PIL.Image.open(PORTRAIT).crop((100, 0, 356, 256))))
    upload(page, "damaged.png", whole[: len(whole) // 2])
    page.get_by_text("damaged.png is cut off").first.wait_for()
    assert page.locator("#overlay img").count() == 0
    for name in ("Label map", "Cut-out"):
        assert page.get_by_role("button", name=name).is_disabled()
    upload(page, "complete.png", whole)
    page.wait_for_selector("#overlay img")


@pytest.mark.browser
def test_a_file_above_the_limit_is_refused(page):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    upload(page, "large.png", png(noise))
    page.get_by_text(re.compile("exceed|too large|maximum", re.IGNORECASE)).first.wait_for()
    assert page.locator("#overlay img").count() == 0


@pytest.mark.browser
def test_the_browser_may_ask_no_other_host(page):
    refused = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener("securitypolicyviolation", e => resolve(e.blockedURI))
            fetch("http://127.0.0.1:9/").then(() => resolve(""), () => {})
        })"""
    )
    assert refused.startswith("http://127.0.0.1:9")


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/etc/hostname", str(ROOT / "setup.cfg"), "setup.cfg"])
def test_no_file_but_its_own_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{address}gradio_api/file={path}")
    assert raised.value.code in (403, 404)


@pytest.mark.browser
def test_a_request_cannot_make_the_page_download(address):
    import gradio_client

    client = gradio_client.Client(address, verbose=False)
    photograph = {"path": "http://192.0.2.1/face.jpg", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(gradio_client.exceptions.AppError, match="only what was uploaded"):
        client.predict(photograph, [], 0.5, api_name="/parsed")
