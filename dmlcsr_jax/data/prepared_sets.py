"""Where prepared sets are, found without what reads them."""

from etils import epath

INFO = "dataset_info.json"


def is_prepared_set(folder: epath.Path) -> bool:
    """Returns whether a folder is a prepared set's own."""
    return (folder / INFO).exists()


def prepared_sets(root: epath.PathLike) -> list[epath.Path]:
    """Returns the folders of the prepared sets in a folder, as `prepare` lays them out.

    Args:
      root: a set's own folder (`DATASET/VERSION`), the one above it (`DATASET`), or the one that
        was given to `prepare` as `--out`; local or remote (`gs://`).

    Returns:
      Folders that tensorflow-datasets opens, sorted; none for a folder without any.
    """
    root = epath.Path(root)
    found = [path.parent for depth in ("", "*/", "*/*/") for path in root.glob(depth + INFO)]
    return sorted(path for path in found if ".incomplete" not in path.name)
