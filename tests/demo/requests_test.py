"""The page asked by HTTP as an adversary does, without a browser: the files and names of others."""

import http.client
import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import uuid

import pytest

from dmlcsr_jax.demo import uploads

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "docs" / "astronaut.jpg"
NOT_UPLOADED = "only what was uploaded to this page is opened; upload the photograph."
# A page as users start it, but that files become old within seconds.
START = """
from dmlcsr_jax.demo import uploads
uploads.SECONDS_KEPT, uploads.SECONDS_BETWEEN = 3.0, 0.2
from dmlcsr_jax.demo.__main__ import main
main(["--host_name=faces.example"])
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs pip install -e '.[demo]'"
)


class Page:
    """A page that runs, and its folder."""

    def __init__(self, temporary):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        self.netloc = urllib.parse.urlsplit(re.search(r"http://\S+", line)[0]).netloc
        (self.folder,) = temporary.glob("dmlcsr_jax_demo_*")

    def files(self):
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def ask(self, method, path, body=None, **headers):
        """Returns status and body."""
        connection = http.client.HTTPConnection(self.netloc, timeout=60)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")

    def upload(self, data, name="face.jpg", **headers):
        boundary = uuid.uuid4().hex
        head = (
            f"--{boundary}\r\nContent-Disposition: form-data; name=files; filename={name}\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        status, text = self.ask("POST", "/gradio_api/upload", body, **headers)
        return json.loads(text)[0] if status == 200 else (status, text)

    def parse(self, payload):
        """Returns what the page answers to a photograph that a client names."""
        body = json.dumps({"data": [payload, ["skin"], 0]})
        kind = {"Content-Type": "application/json"}
        status, text = self.ask("POST", "/gradio_api/call/parsed", body, **kind)
        assert status == 200, text
        return self.ask("GET", f"/gradio_api/call/parsed/{json.loads(text)['event_id']}")[1]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("page"))
    yield page
    page.process.send_signal(signal.SIGTERM)
    assert page.process.wait(60) == 128 + signal.SIGTERM
    assert not page.folder.exists()


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_no_file_of_the_machine_is_opened_and_none_is_told_to_exist(page, meta, tmp_path):
    ours = sorted(page.folder.rglob("astronaut.jpg"))[0]
    link = tmp_path / ("0" * 64) / "link.png"
    link.parent.mkdir()
    link.symlink_to(PORTRAIT)
    around = f"{page.folder}/../{page.folder.name}/{ours.parent.name}/{ours.name}"
    outside = (PORTRAIT, tmp_path / "missing.png", link, "/dev/stdin")
    answers = {page.parse({"path": str(path), **meta}) for path in outside}
    # The same of all, whether they exist or not.
    assert len(answers) == 1
    assert "event: error" in answers.pop()
    for path in (page.folder, ours.parent, page.folder / "missing.png", around):
        answer = page.parse({"path": str(path), **meta})
        assert "event: error" in answer
        assert NOT_UPLOADED in answer
    answer = page.parse({"path": "http://192.0.2.1/face.jpg", **meta})
    assert "event: error" in answer
    assert NOT_UPLOADED in answer


def test_what_was_uploaded_is_parsed(page):
    answer = page.parse({"path": page.upload(PORTRAIT.read_bytes())})
    assert "event: complete" in answer
    assert "_overlay.jpg" in answer
    assert "_labels.png" in answer


def test_uploads_unfinished_ones_and_what_was_made_are_deleted_and_the_example_stays(page):
    (example,) = page.folder.rglob("astronaut.jpg")
    # What ends Gradio's own deletion.
    page.parse({"path": str(page.folder), "meta": {"_type": "gradio.FileData"}})
    path = pathlib.Path(page.upload(PORTRAIT.read_bytes(), "other.jpg"))
    assert "event: complete" in page.parse({"path": str(path)})
    host, port = page.netloc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            b"Content-Disposition: form-data; name=files; filename=half.jpg\r\n\r\n" + 2**16 * b"x"
        )
        until = time.monotonic() + 30
        while not list(page.folder.glob("tmp*")) and time.monotonic() < until:
            time.sleep(0.05)
        assert list(page.folder.glob("tmp*"))
    until = time.monotonic() + 30
    while page.files() != {example} and time.monotonic() < until:
        time.sleep(0.2)
    assert page.files() == {example}
    assert NOT_UPLOADED in page.parse({"path": str(path)})


@pytest.mark.parametrize("host", ["rebound.example", "127.0.0.1.rebound.example", "", "["])
def test_a_host_that_is_not_the_page_gets_no_answer(page, host):
    assert page.ask("GET", "/config", Host=host)[0] == 403
    assert page.upload(b"data", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "faces.example"])
def test_its_own_names_and_addresses_do(page, host):
    assert page.ask("GET", "/config", Host=host)[0] == 200


@pytest.mark.parametrize("origin", ["http://rebound.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_page_cannot_send_a_form_here(page, origin):
    assert page.upload(b"data", Origin=origin)[0] == 403


def test_its_own_origin_can(page):
    assert page.upload(b"data", Origin=f"http://{page.netloc}").endswith("/face.jpg")


def test_bytes_without_end_and_what_the_page_does_not_use_are_refused(page):
    large = {"Content-Length": str(2**40), "Content-Type": "multipart/form-data; boundary=b"}
    assert page.ask("POST", "/gradio_api/upload", None, **large)[0] == 413
    chunked = {"Transfer-Encoding": "chunked"}
    assert page.ask("POST", "/gradio_api/upload", b"0\r\n\r\n", **chunked)[0] == 411
    for path in ("/gradio_api/process_recording", "/gradio_api/component_server", "/login"):
        assert page.ask("POST", path, b"{}")[0] == 404


def test_a_page_that_is_killed_leaves_no_file(tmp_path):
    program = (
        "import os, time; from dmlcsr_jax.demo.uploads import uploads_folder\n"
        "with uploads_folder() as folder:\n"
        "  open(os.path.join(folder, 'face.jpg'), 'w').close(); print(folder, flush=True)\n"
        "  time.sleep(100)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        folder = pathlib.Path(process.stdout.readline().strip())
        assert (folder / "face.jpg").exists()
        process.kill()
    until = time.monotonic() + 30
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()


def test_no_name_leads_out_of_the_folder(tmp_path):
    folder = str(tmp_path)
    own = tmp_path / ("a" * 64)
    own.mkdir()
    (own / "face.jpg").touch()
    (own / "link.jpg").symlink_to(PORTRAIT)
    assert uploads.is_upload(folder, f"{own}/face.jpg")
    for path in ("link.jpg", "..", ".", "", "face.jpg/", "../face.jpg", "x\0", "y" * 300):
        assert not uploads.is_upload(folder, f"{own}/{path}")
