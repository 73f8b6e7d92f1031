"""Label maps and overlays as a file a photograph."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import camera
from dmlcsr_jax.predict.face_parser import Photograph
from dmlcsr_jax.predict.mask_files import MaskFiles
from dmlcsr_jax.predict.origin import Origin, texts_in
from dmlcsr_jax.predict.outputs import (
    ends_the_run,
    label_png,
    overlay_jpeg,
    remove,
    write,
    write_legend,
)
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.report import Labelled
from dmlcsr_jax.predict.result import Result
from dmlcsr_jax.predict.run import Run
from dmlcsr_jax.predict.video import FIRST_FRAME, fingerprint_of, parse_video


def label_folder(run: Run) -> None:
    """Labels a run's own photographs, then its videos.

    Raises:
      OutputError: where an output cannot be written.
    """
    if run.alpha is not None:
        write_legend(run.out, run.parser.label_set)
    with run.progress_bar() as bar:
        own = map(run.source.read, filter(run.is_own, run.source))
        for _, result in label_pictures(run, own):
            run.count(result)
            bar.update()


def label_pictures(
    run: Run, pictures: Iterable[Picture]
) -> Iterator[tuple[Picture, Labelled | UserError]]:
    """Yields each picture with what has become of it: first the photographs, then the videos.

    Raises:
      OutputError: where an output cannot be written.
    """
    output = FileOutput(run.out, run.parser.label_set, run.alpha, run.mask_files)
    needs_image = run.alpha is not None or run.mask_files.needs_image
    videos = []
    # Of the pictures on their way, by their index.
    places: dict[int, Place] = {}

    def photographs() -> Iterator[Picture]:
        for picture in pictures:
            if picture.is_video:
                videos.append(picture)
            else:
                yield picture

    def load(picture: Picture) -> Photograph:
        def check(made_of: str) -> None:
            place = output.place(picture, run.origin(picture, made_of))
            if place.is_finished:
                raise run.skipped(picture.name, place.before)
            places[picture.index] = place

        image, _ = run.reader.photograph(picture, check)
        is_kept = needs_image and run.reader.may_wait(image)
        return run.photograph(picture.name, image, is_kept)

    def finish(picture: Picture, result: Result) -> Labelled | UserError:
        place, record = places.pop(picture.index), json.dumps(result.to_json())

        def write(image: np.ndarray) -> None:
            run.mask_files.write(run.out, place.stem, image, result)
            output.write(place, image, result.label, picture.name, record)

        try:
            if not needs_image:
                write(result.image)
            else:
                made_of = place.origin.made_of
                with run.reader.kept_or_read_again(picture, result.image, made_of) as image:
                    write(image)
        except UserError as error:
            if ends_the_run(error):
                raise
            return error
        return run.labelled(result, record, bool(place.before))

    yield from run.parser.results(photographs(), load, finish)
    for video in videos:
        yield video, _label_video(run, video, output)


def _label_video(run: Run, video: Picture, output: "FileOutput") -> Labelled | UserError:
    path = video.source
    try:
        run.mask_files.require_photograph(video)
        reader, place = run.reader, output.plain_place(video)
        if camera.is_camera(path):
            reader = camera.Camera(run.options.limits.frames)
            camera.require_new(place.label)
        else:
            place = output.place(video, run.origin(video, fingerprint_of(path)))
            if place.is_finished:
                return run.skipped(video.name, place.before)
        with run.bar_of(None, "frame", one_line(video.name)) as bar:

            def start(num_frames: int | None) -> None:
                bar.total = num_frames
                bar.refresh()

            parse_video(
                run.parser,
                reader,
                path,
                place.label,
                place.overlay,
                overlay_alpha=run.options.overlay_alpha,
                steady=not run.options.no_steady,
                photograph_of=functools.partial(run.photograph, video.name),
                texts=place.origin.texts() if place.origin else {},
                on_start=start,
                on_frame=bar.update,
            )
        output.drop_old_overlay(place)
    except UserError as error:
        if ends_the_run(error):
            raise
        return error
    return Labelled(video.name, replaces=bool(place.before))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the outputs of a photograph or video are.

    Attributes:
      label: the PNG of its labels; of a video, the folder of its frames' PNGs, which keeps the
        suffix: a folder of photographs may have the name without it.
      overlay: the JPEG of its overlay; of a video, the mp4.
      stem: what the names of its files begin with, folders and all.
      others: files that are written beside them.
      origin: what is kept with the labels; None for a webcam's.
      before: what is kept with the labels that are there; empty where there are none.
      has_overlay: whether there are overlays.
    """

    label: epath.Path
    overlay: epath.Path
    stem: str
    others: Sequence[epath.Path] = ()
    origin: Origin | None = None
    before: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_overlay: bool = True

    @functools.cached_property
    def is_finished(self) -> bool:
        """Whether the outputs are there, and would be the same again."""
        if self.origin is None or not self.origin.made(self.before):
            return False
        if not all(path.exists() for path in self.others):
            return False
        is_same = self.before.get("overlay") == self.origin.overlay
        return not self.has_overlay or (is_same and self.overlay.exists())


class FileOutput:
    """A label map in `labels/` and an overlay in `overlays/` for each photograph and video."""

    def __init__(
        self,
        out: epath.Path,
        label_set: LabelSet,
        overlay_alpha: float | None,
        mask_files: MaskFiles | None = None,
    ):
        """Writes nothing yet.

        Args:
          out: from `open_folder`.
          label_set: gives the palette.
          overlay_alpha: share of the tint, 0 to 1; None: no overlays.
          mask_files: what else is there of a finished photograph; None: nothing.
        """
        self._out = epath.Path(out)
        self._label_set = label_set
        self._alpha = overlay_alpha
        self._mask_files = mask_files

    def plain_place(self, picture: Picture, addition: str = "") -> Place:
        """Returns the place that a picture's name gives it, whatever is there."""
        stem, suffix = f"{picture.stem}{addition}", ""
        if picture.is_video:
            # Its suffix, where the stem has none.
            suffix = picture.name.removeprefix(picture.stem)
        label, overlay = (suffix, ".mp4") if picture.is_video else (".png", ".jpg")
        return Place(
            self._out / "labels" / f"{stem}{label}",
            self._out / "overlays" / f"{stem}{overlay}",
            stem,
            self._mask_files.paths(self._out, stem) if self._mask_files else (),
            has_overlay=self._alpha is not None,
        )

    def place(self, picture: Picture, origin: Origin) -> Place:
        """Returns a picture's place, with a number in its name where another's labels are.

        Args:
          picture: the photograph or video.
          origin: what it is made of and how.
        """
        # Told from where it lies: two processes must not take the same.
        for addition in ("", f"-{origin.source[:8]}"):
            place = self.plain_place(picture, addition)
            before = texts_in(place.label / FIRST_FRAME if picture.is_video else place.label)
            if origin.is_of(before):
                break
        return dataclasses.replace(place, origin=origin, before=before)

    def write(
        self, place: Place, image: np.ndarray, label: np.ndarray, name: str, record: str = ""
    ) -> None:
        """Writes a photograph's files, the label map last.

        Args:
          place: of the photograph.
          image: uint8 `[H, W, 3]` RGB.
          label: uint8 `[H, W]`.
          name: the photograph's.
          record: its line of --json.

        Raises:
          OutputError: as `write`.
          UserError: where no JPEG is as large.
        """
        png = label_png(label, self._label_set, name, place.origin.texts(record))
        jpeg = b""
        if place.has_overlay:
            jpeg = overlay_jpeg(image, label, self._label_set, self._alpha, name)
        if place.before:
            # Stopped here, it has no labels rather than those of another overlay.
            remove(place.label)
            self.drop_old_overlay(place)
        if place.has_overlay:
            write(place.overlay, jpeg)
        write(place.label, png)

    def drop_old_overlay(self, place: Place) -> None:
        """Removes the overlay of earlier labels where there is to be none."""
        if place.before and not place.has_overlay:
            remove(place.overlay)
