"""Face boxes from a CSV file."""

import collections
import csv
import math

from etils import epath

from dmlcsr_jax.data.addresses import as_path
from dmlcsr_jax.data.decode import read_bytes
from dmlcsr_jax.errors import UserError

# Characters of a line that is not understood.
_SHOWN = 200


def read_boxes(path: epath.PathLike) -> dict[str, list[tuple[float, ...]]]:
    """Reads face boxes from a CSV file with the header `name,x0,y0,x1,y1`.

    Args:
      path: the file; a line is a face, a photograph may have several. `name` is the photograph's,
        relative to the folder that is parsed; the box is left, top, right and bottom edge in
        pixels from the photograph's top left corner.

    Returns:
      Name to boxes, in the order of the lines.

    Raises:
      UserError: where the file cannot be read, or names the line that is not understood.
    """
    path = as_path(path)
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
        return _boxes(csv.DictReader(lines), path)
    # csv's own error is of fields that are longer than any name.
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the face boxes {path} cannot be read: {error}.") from error


def _boxes(reader: csv.DictReader, path: epath.Path) -> dict[str, list[tuple[float, ...]]]:
    columns = ("name", "x0", "y0", "x1", "y1")
    if missing := set(columns) - set(reader.fieldnames or ()):
        raise UserError(
            f"{path} lacks the column {', '.join(sorted(missing))}; its first line must be "
            f"{','.join(columns)}."
        )
    boxes = collections.defaultdict(list)
    for row in reader:
        try:
            box = tuple(float(row[column]) for column in columns[1:])
        except (TypeError, ValueError):
            box = (math.nan,) * 4
        is_box = all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]
        if not is_box or row["name"] is None:
            found = str([row[column] for column in columns[1:]])
            raise UserError(
                f"{path} line {reader.line_num}: {found[:_SHOWN]} is no box; give four numbers, "
                "left below right and top below bottom."
            )
        boxes[row["name"]].append(box)
    return dict(boxes)
