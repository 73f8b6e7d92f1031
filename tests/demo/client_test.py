"""The page as an API, called by gradio_client as docs/predict.md says."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax import FaceParser

PORTRAIT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "astronaut.jpg"


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("gradio", reason="needs the extra demo")
    from gradio_client import Client

    command = [sys.executable, "-m", "dmlcsr_jax.demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        yield Client(address, verbose=False)
        process.terminate()


def test_the_page_answers_programs_as_it_does_visitors(client):
    from gradio_client import handle_file

    overlay, _, areas, label, told = client.predict(
        handle_file(str(PORTRAIT)), ["hair"], 0.5, api_name="/parsed"
    )
    result = FaceParser()(PORTRAIT)
    with PIL.Image.open(label["value"]) as file:
        np.testing.assert_array_equal(np.asarray(file), result.label)
    with PIL.Image.open(overlay) as file:
        tinted = np.asarray(file).astype(int)
    is_hair = result.mask("hair")
    changed = np.abs(tinted - result.image).mean(axis=2)
    assert changed[is_hair].mean() > 20
    assert changed[~is_hair].mean() < 5
    rows = {row[0]: row[1] for row in areas["data"]}
    assert rows["hair"] == is_hair.sum()
    assert isinstance(told, str)
