"""Which kind of input there is: photographs and videos, ArrayRecord files, or a prepared set."""

import glob
import os
from collections.abc import Sequence

from etils import epath

from dmlcsr_jax.data.prepared_sets import is_prepared_set, prepared_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.photographs import PhotoFiles, absolute
from dmlcsr_jax.predict.records import PreparedSet, RecordFiles, record_files


def open_source(
    inputs: Sequence[epath.PathLike], split: str
) -> PhotoFiles | RecordFiles | PreparedSet:
    """Opens what the command line names.

    A folder that holds a prepared set is taken for it, as training takes it; one with photographs
    beside or above the set is a folder of photographs.

    Args:
      inputs: photographs, videos and folders; or one ArrayRecord file, folder of such files, or
        prepared set.
      split: of a prepared set, as tensorflow-datasets names it; "all" for all of it.

    Raises:
      UserError: where an input cannot be opened, inputs of several kinds are named, or `split` is
        for none.
    """
    paths = [absolute(path) for name in inputs for path in _expanded(name)]
    kinds = {kind for kind in map(_kind, paths) if kind is not PhotoFiles}
    if kinds and len(paths) > 1:
        raise UserError(
            "ArrayRecord files or a prepared set must be the only input; give their folder."
        )
    if PreparedSet in kinds:
        return PreparedSet(paths[0], split)
    if split != "all":
        raise UserError(f"--split is for prepared sets, and {inputs[0]} is none; leave it.")
    return RecordFiles(paths[0]) if kinds else PhotoFiles(paths)


def _expanded(name: epath.PathLike) -> list[str]:
    """Returns the files that a pattern such as `photos/*.jpg` matches; else the name as it is."""
    name = os.fspath(name)
    if not glob.has_magic(name) or os.path.lexists(name):
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]


def _kind(path: epath.Path) -> type:
    if is_prepared_set(path):
        return PreparedSet
    if record_files(path):
        return RecordFiles
    # Most folders end the search at their first photograph.
    is_empty = path.is_dir() and not any(PhotoFiles([path]))
    return PreparedSet if is_empty and prepared_sets(path) else PhotoFiles
