"""Whatever people hold a photograph in is one to the parser, or one sentence says why not."""

import io
import pathlib

import colour_network
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
from colour_network import interior, picture, truth

from dmlcsr_jax import FaceParser
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.as_image import as_image

CELLS = [[1, 2, 3], [4, 5, 6]]
IMAGE = picture(CELLS)


def encoded(image=IMAGE, format="PNG"):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, format)
    return file.getvalue()


class NamedFile(io.BytesIO):
    name = "holiday/beach.png"


GIVEN = {
    "bytes": lambda: encoded(),
    "bytearray": lambda: bytearray(encoded()),
    "file object": lambda: io.BytesIO(encoded()),
    "jax": lambda: jnp.asarray(IMAGE),
    "torch": lambda: torch.from_numpy(IMAGE),
    "rgba": lambda: np.dstack([IMAGE, np.full(IMAGE.shape[:2], 7, np.uint8)]),
    "pillow": lambda: PIL.Image.fromarray(IMAGE),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_every_kind_is_the_same_photograph(kind):
    image, _ = as_image(GIVEN[kind]())
    assert isinstance(image, np.ndarray)
    np.testing.assert_array_equal(image, IMAGE)


def test_grey_is_repeated():
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    np.testing.assert_array_equal(as_image(grey)[0], np.stack([grey] * 3, axis=2))


def test_a_file_object_gives_its_name():
    assert as_image(NamedFile(encoded()))[1] == "holiday/beach.png"
    assert as_image(io.BytesIO(encoded()))[1] == ""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (io.StringIO("x"), "gives text; open it in binary mode"),
        (7, "int is no photograph; give a path, encoded bytes"),
        (b"", "the photograph is empty"),
        (encoded()[:-40], "the photograph is cut off or damaged"),
        (np.zeros((4, 5, 2), np.uint8), r"not uint8 \(4, 5, 2\)"),
        (np.zeros((3, 40, 50), np.uint8), "move the channels to the end"),
        (np.zeros((4, 5, 3)), "multiplied by 255"),
        (np.full((4, 5, 3), np.nan), "it holds NaN"),
        (np.zeros((4, 5), np.int64), r"not int64 \(4, 5\)"),
        (torch.zeros(4, 5, 3), "multiplied by 255"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        as_image(given)
    assert "\n" not in str(error.value)


def test_one_and_many(monkeypatch):
    colour_network.install(monkeypatch.setattr, size=96)
    parser = FaceParser("any", faces="whole")
    several = np.stack([IMAGE, IMAGE[:, ::-1]])
    for given in (several, jnp.asarray(several), list(several), tuple(several), iter(several)):
        first, second = parser(given)
        clear = interior(CELLS)
        np.testing.assert_array_equal(first.label[clear], truth(CELLS)[clear])
        np.testing.assert_array_equal(second.label, first.label[:, ::-1])
    for given in (IMAGE, encoded(), jnp.asarray(IMAGE), torch.from_numpy(IMAGE)):
        np.testing.assert_array_equal(parser(given).label, first.label)
    with pytest.raises(UserError, match="the list of photographs is empty"):
        parser([])
    with pytest.raises(UserError, match="int is no photograph"):
        parser(3)
    with pytest.raises(UserError, match="int is no photograph"):
        parser([IMAGE, 3])


def test_a_path_is_called_by_its_name(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded())
    for given in (path, str(path), pathlib.PurePath(path)):
        image, name = as_image(given)
        assert name == str(path)
        np.testing.assert_array_equal(image, IMAGE)
