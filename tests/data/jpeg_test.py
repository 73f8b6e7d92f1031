"""JPEGs that lack a part from their middle, told from whole ones that cameras write oddly."""

import io
import pathlib

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.check_data.check import check_data
from dmlcsr_jax.data import decode, jpeg
from dmlcsr_jax.data.batches import train_batches
from dmlcsr_jax.data.builders.examples import Encoding, encode
from dmlcsr_jax.data.builders.records import LabelFile, Record
from dmlcsr_jax.data.decode_in_worker import photograph_steps
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.limits import DEFAULT
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.data.warp import Augmentation
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.as_image import as_image

PORTRAIT = PIL.Image.open(pathlib.Path(__file__).parents[2] / "docs" / "astronaut.jpg")
KINDS = [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"subsampling": 0}]


def encoded(mode="RGB", **options):
    data = io.BytesIO()
    PORTRAIT.convert(mode).save(data, "JPEG", quality=90, **options)
    return data.getvalue()


def with_stray_bytes(data):
    """Puts three bytes before the first scan."""
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"abc" + data[scan:]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("spoil", [lambda data: data, with_stray_bytes])
def test_without_its_middle_it_is_refused(options, spoil):
    data = encoded(**options)
    rng = np.random.default_rng(0)
    for _ in range(15):
        start = int(rng.integers(len(data) * 0.2, len(data) * 0.7))
        cut = data[:start] + data[start + int(rng.integers(300, len(data) * 0.2)) :]
        with pytest.raises(UserError, match=r"x\.jpg"):
            decode.decode_image(spoil(cut), "x.jpg")


@pytest.mark.parametrize("options", [*KINDS, {"mode": "L"}, {"mode": "CMYK"}])
def test_a_whole_one_is_not(options):
    data = encoded(**options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    padded = data[:-2] + b"\0" * 30 + data[-2:]
    harmless = [data, with_stray_bytes(data), data + b"maker's notes"]
    for each in harmless if options.get("progressive") else [*harmless, padded]:
        assert jpeg.damage(each) is None
        np.testing.assert_array_equal(decode.decode_image(each, "x.jpg"), expected)


def _train(root):
    options = {"label_set": HELEN, "image_size": 32, "augmentation": Augmentation(), "seed": 0}
    with train_batches(FolderSource(root, "train", HELEN), batch_size=1, **options) as batches:
        next(batches)


def _check(root):
    check_data({"train": FolderSource(root, "train", HELEN)}, HELEN, root / "report")


def _prepare(root):
    record = Record("x", root / "images" / "x.jpg", LabelFile(root / "labels" / "x.png"))
    encode(record, Encoding(), HELEN, DEFAULT)


@pytest.mark.parametrize(
    "read",
    [
        _train,
        _check,
        _prepare,
        lambda root: as_image(root / "images" / "x.jpg"),  # FaceParser
        lambda root: as_image((root / "images" / "x.jpg").read_bytes()),
        lambda root: list(photograph_steps(root / "images" / "x.jpg", "x.jpg", DEFAULT)),  # predict
    ],
)
def test_every_reader_refuses_it(tmp_path, read):
    """Three stray bytes before the scan, without which libjpeg says nothing of what is lacking."""
    data = encoded()
    middle = len(data) // 2
    for name, content in (
        ("images/x.jpg", with_stray_bytes(data[:middle] + data[middle + 5000 :])),
        ("labels/x.png", cv2.imencode(".png", np.eye(512, dtype=np.uint8))[1].tobytes()),
        ("train_list.txt", b"x"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"lacks a part of its data|1 of 1 examples are bad"):
        read(tmp_path)
