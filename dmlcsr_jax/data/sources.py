"""Random-access sources of photographs with label maps.

A source is picklable, has a length, and gives `{"image": uint8 [H, W, 3] RGB, "label": uint8
[h, w], "name": str}`, where `h` and `w` are `H` and `W`, perhaps divided by a whole number. Broken
files raise `UserError` when they are read; what can be known earlier is raised on creation.
"""

import bisect
import itertools
import os
import pathlib

import ml_collections
from etils import epath

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.annotated import KINDS as ANNOTATED_KINDS
from dmlcsr_jax.data.annotated import AnnotatedSource
from dmlcsr_jax.data.balance import BalancedSource
from dmlcsr_jax.data.decode import check_shapes, decode_image, decode_label, read_bytes
from dmlcsr_jax.data.folder_pairs import read_pairs
from dmlcsr_jax.data.label_noise import NoisyLabelSource
from dmlcsr_jax.data.label_sets import HELEN, LabelSet
from dmlcsr_jax.data.neighbours import NeighbourSource
from dmlcsr_jax.data.subset import draw_subset
from dmlcsr_jax.data.synthetic import SyntheticSource
from dmlcsr_jax.errors import UserError

KINDS = ("folder", "prepared", *ANNOTATED_KINDS)
_SYNTHETIC_SPLITS = ("train", "val", "test")


def open_source(
    config: ml_collections.ConfigDict,
    split: str,
    label_set: LabelSet,
):
    """Opens the data of a config as a run reads it.

    For "train" these are so many of the examples, with label noise, those of rare classes
    repeated, and neighbours, as the config asks.

    Args:
      config: its `data` and `seed`.
      split: "train" or "eval"; the config says which split of the set that is.
      label_set: meaning of the labels.

    Returns:
      A source as the module describes it.

    Raises:
      UserError: where the kind is unknown or the source cannot be opened.
    """
    source = open_split(config, split, label_set)
    if split == "eval":
        return source
    data, seed = config.data, config.seed
    if data.num_train_examples:
        source = draw_subset(source, data.num_train_examples, seed)
    if data.label_noise:
        source = NoisyLabelSource(source, label_set, data.label_noise, seed)
    if data.repeat_threshold:
        source = BalancedSource(source, label_set, data.repeat_threshold, seed)
    if data.neighbour_prob:  # Last: what counts classes reads label maps alone.
        source = NeighbourSource(source, data.neighbour_prob, seed)
    return source


def open_split(
    config: ml_collections.ConfigDict,
    split: str,
    label_set: LabelSet,
    *,
    check_files: bool = True,
):
    """Opens all examples of a config's split as they are.

    Args:
      config: its `data` and `seed`.
      split: "train" or "eval".
      label_set: meaning of the labels.
      check_files: as in `FolderSource`, for a folder.
    """
    data, name = config.data, config.data[f"{split}_split"]
    if data.source in KINDS:
        return open_roots(
            data.source, data.root, name, label_set, check_files, unannotated=data.unannotated
        )
    if data.source == "synthetic":
        return open_synthetic(
            name,
            label_set,
            num_examples=data.synthetic[f"{split}_examples"],
            size=data.synthetic.size,
            seed=config.seed,
        )
    raise UserError(
        f"there is no data source {data.source!r}; the sources are synthetic, {', '.join(KINDS)}."
    )


def label_set_of(data: ml_collections.ConfigDict) -> LabelSet:
    """Returns the label set that a config's `data` names, else the one that the data brings along.

    That is a folder's `label_names.txt`, and what a prepared set says itself.

    Raises:
      UserError: where there is none, or several folders' differ.
    """
    if data.label_set:
        return label_sets.get(data.label_set)
    if data.source == "synthetic":
        return HELEN
    roots = _roots(data.root)
    if data.source == "prepared":
        from dmlcsr_jax.data.prepared import PreparedSource

        return PreparedSource(roots[0], data.train_split).label_set
    found = {}
    for root in roots:
        path = _folder(root) / label_sets.NAMES_FILE
        if not path.exists():
            raise UserError(
                f"config.data.label_set is empty and {root} has no {label_sets.NAMES_FILE}; write "
                "one there with a class name a line, label 0 first, or name a label set."
            )
        found[root] = label_sets.get(path)
    first = found[roots[0]]
    if different := [root for root, other in found.items() if other != first]:
        raise UserError(
            f"{label_sets.NAMES_FILE} of {different[0]} differs from that of {roots[0]}; folders "
            "of one root must have the same labels."
        )
    return first


def _roots(root: str) -> list[str]:
    return [folder.strip() for folder in root.split(",")]


def open_roots(
    kind: str,
    root: str,
    split: str,
    label_set: LabelSet,
    check_files: bool = True,
    unannotated: str = "background",
):
    """Opens a split of one or several folders, or prepared sets, of the same labels.

    Args:
      kind: one of `KINDS`.
      root: the folders, separated by commas.
      split: which list, or split.
      label_set: meaning of the labels.
      check_files: as in `FolderSource`, for a folder.
      unannotated: as in `AnnotatedSource`, for annotations.

    Raises:
      UserError: where one cannot be opened.
    """
    roots = _roots(root)
    if kind == "folder":
        return _joined([FolderSource(folder, split, label_set, check_files) for folder in roots])
    if kind in ANNOTATED_KINDS:
        return _joined(
            [
                AnnotatedSource(kind, _folder(folder), split, label_set, unannotated)
                for folder in roots
            ]
        )
    # Imported here: it brings tensorflow-datasets, which the other kinds do without.
    from dmlcsr_jax.data.prepared import PreparedSource

    return _joined([PreparedSource(folder, split, label_set) for folder in roots])


def _joined(sources: list):
    return sources[0] if len(sources) == 1 else JoinedSource(sources)


class JoinedSource:
    """Several sources of the same label set, one after another."""

    def __init__(self, sources: list):
        self._sources = sources
        self._ends = list(itertools.accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        """Reads example `index`, those of the first source first."""
        number, start = self._place(index)
        return self._sources[number][index - start]

    def label(self, index: int):
        """Reads the label map of example `index` alone."""
        number, start = self._place(index)
        return self._sources[number].label(index - start)

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect.bisect_right(self._ends, index)
        return number, self._ends[number - 1] if number else 0


def open_synthetic(
    split: str,
    label_set: LabelSet,
    *,
    num_examples: int,
    size: int,
    seed: int = 0,
) -> SyntheticSource:
    """Opens a split of drawn faces; splits of one seed share no face.

    Args:
      split: "train", "val" or "test".
      label_set: must be Helen's.
      num_examples: number of faces.
      size: side of the square image and label, pixels.
      seed: which faces.

    Raises:
      UserError: where there is no such split, or the labels are not Helen's.
    """
    if label_set.classes != HELEN.classes:
        raise UserError(
            f"drawn faces have the labels of {HELEN.name!r}, not of {label_set.name!r}; choose "
            f"the label set {HELEN.name!r}."
        )
    if split not in _SYNTHETIC_SPLITS:
        raise UserError(
            f"drawn faces have no split {split!r}; the splits are {', '.join(_SYNTHETIC_SPLITS)}."
        )
    series = len(_SYNTHETIC_SPLITS) * seed + _SYNTHETIC_SPLITS.index(split)
    return SyntheticSource(num_examples, size, series)


class FolderSource:
    """A folder with `images/`, `labels/` and perhaps a list `{split}_list.txt` for each split.

    A list's line is an image and its label, relative to the folder and separated by white space
    (`images/ID.jpg labels/ID.png`); or an image alone, whose label is the PNG of the same name in
    `labels/`; or just an ID, whose image and label are the files of that name in the two folders.
    Names may hold spaces. Empty lines and lines starting with `#` are left out. Without lists all
    images are taken whose label has the same name, see `folder_pairs`.

    Args:
      root: the folder, local or remote (`gs://`).
      split: which list; "train", "val" or "test" where there is none.
      label_set: meaning of the labels.
      check_files: whether a listed file that is missing is an error on creation, rather than when
        it is read.

    Raises:
      UserError: on creation, where the folder, the list or a listed file is missing, or the list
        is empty or not understood; on reading, where a file is damaged, its labels are not the
        set's, or label and image do not fit.
    """

    def __init__(
        self, root: str | os.PathLike, split: str, label_set: LabelSet, check_files: bool = True
    ):
        """Reads the list and checks that its files exist; reads none of them."""
        self._root = _folder(root)
        self._label_set = label_set
        self._pairs = read_pairs(self._root, split, check_files)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict:
        """Reads pair `index`: "image" uint8 `[H, W, 3]` RGB, "label" uint8 `[h, w]`, "name"."""
        image_file, label_file = self.files(index)
        image = decode_image(read_bytes(image_file), str(image_file))
        label = decode_label(read_bytes(label_file), str(label_file), self._label_set)
        check_shapes(image, label, str(image_file), str(label_file))
        return {"image": image, "label": label, "name": _name(self._pairs[index][0])}

    def label(self, index: int):
        """Reads the label map of pair `index` alone, uint8 `[h, w]`."""
        label_file = self.files(index)[1]
        return decode_label(read_bytes(label_file), str(label_file), self._label_set)

    def files(self, index: int) -> tuple[pathlib.PurePath, pathlib.PurePath]:
        """Returns the paths of the image and of the label of pair `index`."""
        image, label = self._pairs[index]
        return self._root / image, self._root / label


def _folder(root: str | os.PathLike) -> pathlib.Path | epath.Path:
    folder = epath.Path(root) if "://" in str(root) else pathlib.Path(root)
    if not str(root) or not folder.is_dir():
        raise UserError(
            f"the data folder {str(root)!r} does not exist; set the data's root to the folder that "
            "holds images/ and labels/."
        )
    return folder


def _name(image: str) -> str:
    return os.path.splitext(image.removeprefix("images/"))[0]
