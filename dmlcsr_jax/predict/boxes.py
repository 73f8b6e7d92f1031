"""Face boxes from a CSV file."""

import collections
import csv
import math

from etils import epath

from dmlcsr_jax.errors import UserError


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
    path = epath.Path(path)
    try:
        lines = path.read_text().lstrip("\ufeff").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the face boxes {path} cannot be read: {error}.") from error
    columns = ("name", "x0", "y0", "x1", "y1")
    reader = csv.DictReader(lines)
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
        if not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
            raise UserError(
                f"{path} line {reader.line_num}: {[row[c] for c in columns[1:]]} is no box; give "
                "four numbers, left below right and top below bottom."
            )
        boxes[row["name"]].append(box)
    return dict(boxes)
