import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import photographs
from dmlcsr_jax.predict.photographs import PhotoFiles, read_photograph


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def stems(source):
    return {picture.name: picture.stem for picture in source}


def test_folder_is_read_with_all_below_it_in_order(tmp_path):
    touch(tmp_path, "b.jpg", "a.JPG", "sub/deep/c.png", "sub/d.webp", "movie.mp4", "notes.txt")
    touch(tmp_path, ".hidden.jpg", ".cache/e.jpg", "._a.jpg", "f.HEIC")
    source = PhotoFiles([tmp_path])
    assert [picture.name for picture in source] == [
        "a.JPG",
        "b.jpg",
        "movie.mp4",
        "sub/d.webp",
        "sub/deep/c.png",
    ]
    assert [picture.index for picture in source] == list(range(5))
    assert [picture.is_video for picture in source] == [False, False, True, False, False]
    assert source.ignored == {".txt": 1, ".heic": 1}
    assert source.base == tmp_path


def test_files_of_one_stem_keep_their_suffixes(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "B.png", "c.png", "c.png.jpg", "d.jpg", "sub/a.jpg")
    assert stems(PhotoFiles([tmp_path])) == {
        "B.png": "B.png",
        "a.jpg": "a.jpg",
        "a.png": "a.png",
        "b.jpg": "b.jpg",
        "c.png": "c",
        "c.png.jpg": "c.png.jpg",
        "d.jpg": "d",
        "sub/a.jpg": "sub/a",
    }


def test_a_file_alone_is_named_as_in_its_folder(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "raw.data")
    assert stems(PhotoFiles([tmp_path / "a.png"])) == {"a.png": "a.png"}
    assert stems(PhotoFiles([tmp_path / "b.jpg"])) == {"b.jpg": "b"}
    assert stems(PhotoFiles([tmp_path / "raw.data"])) == {"raw.data": "raw.data"}


def test_several_inputs_are_named_below_their_common_folder_once_each(tmp_path):
    touch(tmp_path, "one/a.jpg", "two/a.jpg", "two/sub/b.jpg", "three/c.jpg")
    source = PhotoFiles(
        [
            tmp_path / "two",
            tmp_path / "two/sub",
            tmp_path / "two/sub/b.jpg",
            tmp_path / "one/a.jpg",
            tmp_path / "one/a.jpg",
        ]
    )
    assert source.base == tmp_path
    names = [picture.name for picture in source]
    assert sorted(names) == ["one/a.jpg", "two/a.jpg", "two/sub/b.jpg"]
    assert names == [picture.name for picture in source]


def test_what_prediction_wrote_is_no_input(tmp_path):
    touch(tmp_path, "a.jpg", "out/labels/a.png", "out/overlays/a.jpg", "out/predict.json")
    touch(tmp_path, "out/more/b.jpg", "labels/c.png")
    source = PhotoFiles([tmp_path])
    assert [picture.name for picture in source] == ["a.jpg", "labels/c.png", "out/more/b.jpg"]
    for path in ("out/overlays", "out/overlays/a.jpg", "out/labels/a.png"):
        with pytest.raises(UserError, match="written by prediction"):
            PhotoFiles([tmp_path / path])


def test_missing_input_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        PhotoFiles([tmp_path / "nowhere.jpg"])


def test_exif_orientation_is_respected(tmp_path):
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[:, :20] = (250, 0, 0)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # Shown after a quarter turn clockwise.
    stored = PIL.Image.fromarray(np.rot90(upright).copy())
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    read = read_photograph(tmp_path / "a.jpg")
    assert read.shape == (20, 40, 3)
    assert np.abs(read[:, :16].astype(int) - [250, 0, 0]).max() < 12
    assert read[:, 24:].max() < 12


@pytest.mark.parametrize("kind", ["grey", "alpha", "sixteen", "palette", "colour"])
def test_every_kind_of_png_becomes_rgb_bytes(tmp_path, kind):
    red = np.zeros((6, 8, 3), np.uint8)
    red[..., 0] = 200
    path = str(tmp_path / "a.png")
    expected = red
    if kind == "grey":
        cv2.imwrite(path, red[..., 0])
        expected = np.repeat(red[..., :1], 3, axis=2)
    elif kind == "alpha":
        PIL.Image.fromarray(np.dstack([red, np.full((6, 8), 30, np.uint8)])).save(path)
    elif kind == "sixteen":
        cv2.imwrite(path, red[..., ::-1].astype(np.uint16) * 257)
    elif kind == "palette":
        PIL.Image.fromarray(red).convert("P", palette=PIL.Image.Palette.ADAPTIVE).save(path)
    else:
        PIL.Image.fromarray(red).save(path)
    read = read_photograph(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected)


def test_unreadable_photographs_are_named(tmp_path):
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))[1]
    (tmp_path / "cut.jpg").write_bytes(whole.tobytes()[:-200])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"no picture at all")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("cut.jpg", "empty.png", "text.png", "folder.jpg", "missing.jpg"):
        with pytest.raises(UserError, match=name):
            read_photograph(tmp_path / name)


def test_suffixes_are_those_that_the_decoder_reads():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for suffix in photographs.PHOTO_SUFFIXES:
        is_written, data = cv2.imencode(suffix, image)
        assert is_written, suffix
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None, suffix
        # Pillow tells the size first.
        assert decode_image(data.tobytes(), f"a{suffix}").shape == image.shape
