"""Label sets by their name or from a file."""

import dataclasses

from etils import epath

from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.data.label_sets.celebamask_hq import CELEBAMASK_HQ
from dmlcsr_jax.data.label_sets.colours import generated_palette
from dmlcsr_jax.data.label_sets.common import COMMON, COMMON_EXTENDED
from dmlcsr_jax.data.label_sets.face_synthetics import FACE_SYNTHETICS
from dmlcsr_jax.data.label_sets.helen import HELEN
from dmlcsr_jax.data.label_sets.label_set import LabelSet
from dmlcsr_jax.data.label_sets.lapa import LAPA
from dmlcsr_jax.data.label_sets.partial import FASSEG, FIGARO, IBUG_68, LFW_PARTS
from dmlcsr_jax.data.label_sets.sides import pairs_by_name
from dmlcsr_jax.errors import UserError, one_line

LABEL_SETS: dict[str, LabelSet] = {
    label_set.name: label_set
    for label_set in (
        *(HELEN, LAPA, CELEBAMASK_HQ, FACE_SYNTHETICS, COMMON, COMMON_EXTENDED),
        *(LFW_PARTS, FIGARO, FASSEG, IBUG_68),
    )
}

# Of a folder's label sets, beside its images/ and labels/.
NAMES_FILE = "label_names.txt"
_MAX_BYTES = 2**20


def in_declared_colours(label_set: LabelSet) -> LabelSet:
    """Returns a set that a file describes in the colours that its declaration has by now."""
    declared = LABEL_SETS.get(label_set.name)
    if declared is None or declared.classes != label_set.classes:
        return label_set
    return dataclasses.replace(label_set, palette=declared.palette)


def get(name_or_file: epath.PathLike) -> LabelSet:
    """Returns a declared label set, or the one that a file describes.

    Args:
      name_or_file: a name in `LABEL_SETS`; or a file, local or remote: `.json` as
        `LabelSet.to_json` writes it, or else text with one class name a line, label 0 first,
        empty lines and lines starting with `#` left out. The names of a text file that are those
        of a declared set give that set. Otherwise names that differ only in left and right become
        mirror pairs, see `sides`, left being the image's left unless a line says
        `# left_is: subject`; `# left_is: none` makes no pairs. Where a line says
        `# means_in: SET`, every class is followed by what it may be there, `face: skin, nose`; a
        class alone means the one of its name.

    Raises:
      UserError: where neither a set nor a file has that name, or the file is not usable.
    """
    if str(name_or_file) in LABEL_SETS:
        return LABEL_SETS[str(name_or_file)]
    path = epath.Path(name_or_file)
    if not path.is_file():
        raise UserError(
            f"there is no label set and no label-name file {str(name_or_file)!r}; the label sets "
            f"are {', '.join(LABEL_SETS)}."
        )
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        # Editors put a byte-order mark there, which is no part of the first name.
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable label-name file: {error}.") from error
    if len(data) > _MAX_BYTES:
        raise UserError(f"{path} is no label-name file: it has more than {_MAX_BYTES:,} bytes.")
    try:
        if path.suffix == ".json":
            return LabelSet.from_json(parse_object(data, str(path)))
        return _from_names(path, text)
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


def _from_names(path: epath.Path, text: str) -> LabelSet:
    """Returns the label set of a text file with one class name a line."""
    lines = [line.strip() for line in text.splitlines()]
    classes = tuple(line for line in lines if line and not line.startswith("#"))
    if means_in := _said(lines, "means_in"):
        return _from_meanings(path, classes, means_in)
    for declared in LABEL_SETS.values():
        if declared.classes == classes:
            return declared
    left_is = _said(lines, "left_is") or "image"
    pairs = pairs_by_name(classes) if left_is != "none" else ()
    return LabelSet(
        name=one_line(path.stem).strip("# ") or "classes",
        classes=classes,
        mirror_pairs=pairs,
        left_is=left_is if pairs else "none",
        palette=generated_palette(len(classes)),
    )


def _said(lines: list[str], what: str) -> str:
    """Returns the value of the last line `# what: value`, or nothing."""
    value = ""
    for line in lines:
        key, _, text = line.lstrip("# ").partition(":")
        if line.startswith("#") and key.strip() == what:
            value = text.strip()
    return value


def _from_meanings(path: epath.Path, lines: tuple[str, ...], means_in: str) -> LabelSet:
    """Returns the set of lines such as `face: skin, nose`, its groups of another set's classes."""
    if means_in not in LABEL_SETS:
        raise UserError(f"there is no label set {means_in!r}, which `# means_in` names.")
    known, means = LABEL_SETS[means_in].classes, {}
    for line in lines:
        name, _, listed = (part.strip() for part in line.partition(":"))
        means[name] = tuple(part.strip() for part in (listed or name).split(","))
        if unknown := set(means[name]) - set(known):
            raise UserError(
                f"{name!r} means {min(unknown)!r}, which is no class of {means_in!r}; those are "
                f"{', '.join(known)}."
            )
    return LabelSet(
        name=one_line(path.stem).strip("# ") or "classes",
        classes=tuple(means),
        mirror_pairs=(),
        left_is="none",
        palette=generated_palette(len(means)),
        means_in=means_in,
        means=means,
    )
