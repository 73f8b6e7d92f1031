"""What is made of all label maps at the end of a run: files of other tools, what to correct first.

Label maps are read from the folder of the outputs, so that those of earlier runs count too.
"""

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from dmlcsr_jax.data.decode import decode_label, read_bytes
from dmlcsr_jax.errors import one_line
from dmlcsr_jax.predict.annotations import FORMATS, LabelledPhotograph
from dmlcsr_jax.predict.folder import FileOutput, Place
from dmlcsr_jax.predict.outputs import write, write_parts
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.run import Run

REVIEW = "review.txt"


def finish_files(run: Run) -> None:
    """Writes what `--format` and `--review` ask for.

    Raises:
      OutputError: where a file cannot be written.
      UserError: where a label map was damaged meanwhile.
    """
    for name in run.options.format:
        with run.bar_of(run.num_pictures, "image", f"write {name}") as bar:

            def photographs(bar=bar) -> Iterator[LabelledPhotograph]:
                for picture, place in _finished(run):
                    data = read_bytes(place.label)
                    label = decode_label(data, str(place.label), run.parser.label_set)
                    source = os.fspath(picture.source)
                    yield LabelledPhotograph(picture.name, place.stem, source, label)
                    bar.update()

            for path, parts in FORMATS[name](photographs(), run.parser.label_set, run.out):
                write_parts(path, (part.encode(errors="replace") for part in parts))
    if run.options.review:
        _review(run)


def _finished(run: Run) -> Iterator[tuple[Picture, Place]]:
    """Yields each photograph of which there is a label map, and where that is."""
    output = FileOutput(run.out, run.parser.label_set, run.alpha)
    for picture in run.source:
        if not picture.is_video:
            place = output.place(picture, run.origin(picture, ""))
            if place.before:
                yield picture, place


class _Doubt(NamedTuple):
    quality: float
    name: str
    doubts: str


def _review(run: Run) -> None:
    """Lists the photographs whose faces are least sure, those where none was found first."""
    found = []
    for picture, place in _finished(run):
        faces = json.loads(place.before.get("record", "{}")).get("faces", [])
        known = [face for face in faces if face.get("quality") is not None]
        doubts = sorted({doubt for face in known for doubt in face["doubts"]})
        if known:
            least = min(face["quality"] for face in known)
            found.append(_Doubt(least, one_line(picture.name), ", ".join(doubts)))
        else:
            found.append(_Doubt(0.0, one_line(picture.name), "no face"))
    chosen = sorted(found)[: run.options.review]
    lines = [f"{each.quality:.2f}  {each.name}  {each.doubts}".rstrip() for each in chosen]
    write(run.out / REVIEW, "".join(f"{line}\n" for line in lines).encode(errors="replace"))
    print(f"worth a look first, by quality (also in {one_line(str(run.out / REVIEW))}):")
    for line in lines:
        print(f"  {line}")
