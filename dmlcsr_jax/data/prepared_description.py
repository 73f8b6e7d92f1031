"""What a prepared set says of itself in JSON files, checked before it is believed.

tensorflow-datasets would import whatever a set's `features.json` names, which runs its code, and
fill in whatever template the set gives for the names of its files. Here records are read with the
features that this package declares, and files have the names that `prepare` gives them.
"""

from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from google.protobuf import json_format

from dmlcsr_jax.data.decode import read_bytes
from dmlcsr_jax.data.features import features
from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.prepared_sets import INFO
from dmlcsr_jax.errors import UserError

_FEATURES = "features.json"
_SUMMARY = "metadata.json"
_FORMAT = "array_record"


def read_summary(folder: epath.Path) -> dict[str, Any]:
    """Returns what `prepare` wrote about a set: "dataset", "label_set", "options", "left_out".

    Raises:
      UserError: where it cannot be read, or the set has no label set.
    """
    path = folder / _SUMMARY
    try:
        summary = parse_object(read_bytes(path), str(path))
        LabelSet.from_json(summary.get("label_set"))
    except UserError as error:
        reason = str(error).removeprefix(f"{path} ").rstrip(".")
        raise UserError(f"{path} cannot be read ({reason}); prepare the set again.") from error
    return summary


def read_splits(folder: epath.Path) -> tfds.core.SplitDict:
    """Returns a set's splits; opens no records.

    Raises:
      UserError: where the description cannot be read or is impossible, or the examples have other
        features than `features` says.
    """
    _check_features(folder / _FEATURES)
    path = folder / INFO
    data = read_bytes(path)
    try:
        set_ = json_format.Parse(data, tfds.core.proto.dataset_info_pb2.DatasetInfo())
        template = tfds.core.ShardedFileTemplate(
            dataset_name=set_.name, data_dir=folder, filetype_suffix=set_.file_format
        )
        splits = tfds.core.SplitDict.from_proto(set_.splits, template)
        problem = _problem(set_, template.template, splits, folder)
    except (json_format.Error, ValueError, RecursionError) as error:
        problem = str(error)
    if problem:
        raise UserError(
            f"{path} does not describe a prepared set ({problem}); copy the set again or prepare "
            "it anew."
        )
    return splits


def _problem(set_, template: str, splits: tfds.core.SplitDict, folder: epath.Path) -> str | None:
    """Returns what is impossible in a parsed description, or None."""
    if set_.file_format != _FORMAT:
        return f"its files are of the format {set_.file_format!r}, not {_FORMAT!r}"
    for split in set_.splits:
        if split.filepath_template not in ("", template):
            return f"the files of {split.name!r} are named by {split.filepath_template!r}"
        if not split.shard_lengths or min(split.shard_lengths) < 0 or split.num_bytes < 0:
            return f"the lengths of {split.name!r} are no lengths"
    for split in splits.values():
        for file in map(epath.Path, split.filepaths):
            if file.parent != folder:
                return f"it names the file {file}, which is not in its folder"
    return None


def _check_features(path: epath.Path) -> None:
    """Refuses the examples of another program's set."""
    ours = features().to_json()
    found = parse_object(read_bytes(path), str(path))
    declared = _class_names(found.get("pythonClassName"), found.get("featuresDict"))
    if declared != _class_names(ours["type"], ours["content"]):
        raise UserError(
            f"{path} declares other features than those that `python -m dmlcsr_jax.data.prepare` "
            "writes; it is of another program: prepare its photographs and labels anew."
        )


def _class_names(class_name: Any, content: Any) -> Any:
    """Returns the names of the classes in a declaration of features, None where it is none."""
    try:
        parts = {name: part["pythonClassName"] for name, part in content["features"].items()}
    except (KeyError, TypeError, AttributeError):
        return None
    return class_name, parts
