"""Photographs with what labelling tools say of them, as a source of label maps."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from dmlcsr_jax.data import annotation_files
from dmlcsr_jax.data.annotation_files import Annotated
from dmlcsr_jax.data.decode import check_shapes, decode_image, read_bytes
from dmlcsr_jax.data.folder_pairs import HELD_OUT, IMAGE_SUFFIXES, held_out, list_lines
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError

# Where the file that is about all photographs is looked for, below the data's folder.
_FILES = {
    "coco": ("coco.json", "annotations/coco.json"),
    "cvat": ("cvat.xml", "annotations/cvat.xml"),
    "labelstudio": ("labelstudio.json", "annotations/labelstudio.json"),
}
KINDS = (*annotation_files.READERS, "masks")

# From nothing to uint8 `[h, w]`, a photograph's label map.
_Paint = Callable[[], np.ndarray]


class AnnotatedSource:
    """A folder's `images/` with annotations; see `sources` for what a source is.

    `coco.json`, `cvat.xml` or `labelstudio.json` lies in the folder or its `annotations/`; files of
    labelme lie below `labelme/`, or beside the photographs; `masks/` has, in whatever folders,
    `ID_CLASS.png` for each part of `images/ID.*`, white where it is. Later shapes lie on earlier
    ones, of masks those of later labels. A photograph that no file mentions is left out. Splits are
    `{split}_list.txt`'s names, without lists those of `folder_pairs`.

    Args:
      kind: one of `KINDS`.
      root: the folder, local.
      split: which list; "train", "val" or "test" where there is none.
      label_set: whose classes the annotations name.
      unannotated: what pixels are that no shape covers: "background", the first class where the
        set has no background, or "ignore".

    Raises:
      UserError: on creation, where files are missing or not understood, or name no class of the
        set; on reading, where a photograph or a shape is damaged.
    """

    def __init__(
        self,
        kind: str,
        root: str | os.PathLike,
        split: str,
        label_set: LabelSet,
        unannotated: str = "background",
    ):
        """Reads the annotations; no photograph."""
        self._root = pathlib.Path(root)
        self._label_set = label_set
        has_background = label_set.background < label_set.num_classes
        self._blank = label_set.background if has_background else 0
        if unannotated == "ignore":
            self._blank = label_set.ignore_label
        self._images = {
            path.relative_to(self._root / "images").with_suffix("").as_posix(): path
            for path in sorted((self._root / "images").rglob("*"))
            if path.suffix in IMAGE_SUFFIXES
        }
        if not self._images:
            raise UserError(f"there are no photographs in {self._root / 'images'}; add some.")
        paints = self._of_masks() if kind == "masks" else self._of_files(kind)
        if not paints:
            raise UserError(
                f"the {kind} annotations in {root} name none of the {len(self._images)} "
                f"photographs in its images/, such as {next(iter(self._images))}; name them alike."
            )
        self._names = self._in_split(split, paints)
        self._paints = [paints[name] for name in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> dict:
        """Reads photograph `index`."""
        name = self._names[index]
        file = self._images[name]
        image = decode_image(read_bytes(file), str(file))
        label = self.label(index)
        check_shapes(image, label, str(file), "its annotation")
        return {"image": image, "label": label, "name": name}

    def label(self, index: int) -> np.ndarray:
        """Returns the label map of photograph `index` alone, uint8 `[h, w]`."""
        return self._paints[index]()

    def _of_files(self, kind: str) -> dict[str, _Paint]:
        if kind == "labelme":
            below = [[*(self._root / name).rglob("*.json")] for name in ("labelme", "images")]
            files = below[0] or below[1]
            missing = f"any labelme file (.json) below labelme/ or images/ in {self._root}"
        else:
            files = [path for name in _FILES[kind] if (path := self._root / name).is_file()][:1]
            missing = f"{' or '.join(_FILES[kind])} in {self._root}"
        if not files:
            raise UserError(f"there is not {missing}; put it there.")
        paints = {}
        for path in sorted(files):
            for each in annotation_files.read_file(kind, path):
                for name, _ in each.shapes:
                    self._require_class(name, path)
                if (image := self._named(each.image)) is not None:
                    paints[image] = functools.partial(
                        _painted, path, each, self._label_set, self._blank
                    )
        return paints

    def _of_masks(self) -> dict[str, _Paint]:
        """Returns the photographs that masks belong to, `00012_hair.png` to `12.jpg` too."""
        by_number = {name.lstrip("0") or "0": name for name in self._images}
        classes = sorted(self._label_set.classes, key=len, reverse=True)
        files: dict[str, dict[int, pathlib.Path]] = {}
        for path in sorted((self._root / "masks").rglob("*.png")):
            part = next((name for name in classes if path.stem.endswith(f"_{name}")), None)
            if part is None:
                raise UserError(
                    f"{path} ends in no class of {self._label_set.name!r}; it must be called "
                    f"ID_CLASS.png, such as {path.stem}_{self._label_set.classes[-1]}.png."
                )
            stem = path.stem.removesuffix(f"_{part}")
            image = stem if stem in self._images else by_number.get(stem.lstrip("0") or "0")
            if image is not None:
                files.setdefault(image, {})[self._label_set.classes.index(part)] = path
        return {
            image: functools.partial(_painted_masks, sorted(paths.items()), self._blank)
            for image, paths in files.items()
        }

    def _require_class(self, name: str, path: pathlib.Path) -> None:
        if name not in self._label_set.classes:
            raise UserError(
                f"{path} has a shape of the class {name!r}, which {self._label_set.name!r} has "
                "not; rename it, or name the classes in label_names.txt."
            )

    def _named(self, image: str) -> str | None:
        """Returns the photograph that a file means, by its path's end; None for none."""
        parts = pathlib.PurePosixPath(image.replace("\\", "/")).with_suffix("").parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((end for end in ends if end in self._images), None)

    def _in_split(self, split: str, names: Iterable[str]) -> list[str]:
        listing = self._root / f"{split}_list.txt"
        if listing.is_file():
            listed = [self._named(line.split()[0]) or line for _, line in list_lines(listing)]
            if lost := sorted(set(listed) - set(names)):
                raise UserError(
                    f"{listing} names {lost[0]}, of which there is no photograph with annotations; "
                    "take it off the list."
                )
            return listed
        if split not in ("train", *HELD_OUT):
            raise UserError(f"there is no list {listing}; write one, or choose the split val.")
        names = sorted(names)
        kept = held_out(names) if len(names) > 1 else set()
        return [name for name in names if (name in kept) == (split != "train")]


def _painted(path: pathlib.Path, each: Annotated, label_set: LabelSet, blank: int) -> np.ndarray:
    """Returns uint8 `[H, W]`: the shapes that a file has of a photograph, on what is blank."""
    label = np.full(each.hw, blank, np.uint8)
    for name, shape in each.shapes:
        mask = annotation_files.draw(shape, each.hw, f"{path}: {each.image}")
        label[mask] = label_set.classes.index(name)
    return label


def _painted_masks(files: list[tuple[int, pathlib.Path]], blank: int) -> np.ndarray:
    """Returns uint8 `[h, w]`: a photograph's masks, each with its label, on what is blank."""
    label = None
    for value, path in files:
        mask = decode_image(read_bytes(path), str(path))[..., 0] > 127
        if label is None:
            label = np.full(mask.shape, blank, np.uint8)
        if mask.shape != label.shape:
            raise UserError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, other masks of the "
                f"photograph {label.shape[1]}x{label.shape[0]}; make them alike."
            )
        label[mask] = value
    return label
