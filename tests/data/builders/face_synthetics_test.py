"""FaceSynthetics, prepared by the command, compared pixel by pixel with the original files."""

import numpy as np
import PIL.Image
from preparing import error, examples, face, jpeg_pixels, run, save


def test_face_synthetics(shared_dir, tmp_path):
    source = shared_dir / "data" / "face_synthetics_100"
    root = run("face_synthetics", source, tmp_path)
    found = {split: examples(root, split) for split in ("train", "val", "test")}
    names = [name for split in found.values() for name in split]
    assert sorted(names) == [f"{i:06d}" for i in range(100)]
    # Reading all 100 again by Pillow takes seconds; a tenth of them does.
    for name, example in [item for split in found.values() for item in split.items()][::10]:
        label = np.asarray(PIL.Image.open(source / f"{name}_seg.png"))
        np.testing.assert_array_equal(example["label"], label)
        np.testing.assert_array_equal(example["image"], jpeg_pixels(source / f"{name}.png"))
        points = np.loadtxt(source / f"{name}_ldmks.txt")
        assert points.shape == (70, 2)
        np.testing.assert_allclose(example["box"], [*points.min(0), *points.max(0)])


def test_face_synthetics_split_does_not_depend_on_the_other_images(tmp_path, capsys):
    image, label = face(0, 64)
    label[:5] = 255
    for folder, indices in (("some", range(0, 40, 2)), ("all", range(40))):
        for index in indices:
            save(tmp_path / folder / f"{index:06d}.png", image)
            save(tmp_path / folder / f"{index:06d}_seg.png", label)
        options = ("--allow_partial", "--val_fraction=0.25", "--test_fraction=0.25")
        run("face_synthetics", tmp_path / folder, tmp_path / f"to_{folder}", *options)
    for split in ("train", "val", "test"):
        whole = set(examples(tmp_path / "to_all", split))
        part = set(examples(tmp_path / "to_some", split))
        assert part == {name for name in whole if int(name) % 2 == 0}
        assert len(whole) >= 5
    message = error(capsys, "face_synthetics", tmp_path / "all", tmp_path / "to")
    assert "40 images instead of the official 100, 1,000 or 100,000" in message


def test_face_synthetics_with_a_file_that_is_not_the_sets(tmp_path, capsys):
    image, label = face(0, 64)
    for name in ("000001", "holiday"):
        save(tmp_path / "set" / f"{name}.png", image)
        save(tmp_path / "set" / f"{name}_seg.png", label)
    options = ("face_synthetics", tmp_path / "set", tmp_path / "to", "--allow_partial")
    assert "set/holiday.png is not named by a number" in error(capsys, *options)
