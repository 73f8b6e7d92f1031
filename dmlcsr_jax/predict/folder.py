"""Label maps and overlays as a file a photograph."""

import functools
from collections.abc import Iterator

import numpy as np
from etils import epath

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import camera
from dmlcsr_jax.predict.face_parser import Photograph
from dmlcsr_jax.predict.mask_files import MaskFiles
from dmlcsr_jax.predict.outputs import (
    ends_the_run,
    label_png,
    made_of_in,
    overlay_jpeg,
    write,
)
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.report import AlreadyLabelled, Labelled
from dmlcsr_jax.predict.result import Result
from dmlcsr_jax.predict.run import Run
from dmlcsr_jax.predict.video import FIRST_FRAME, fingerprint_of, parse_video


def label_folder(run: Run) -> None:
    """Labels a run's own photographs, then its videos.

    Raises:
      OutputError: where an output cannot be written.
    """
    output = FileOutput(run.out, run.parser.label_set, run.alpha, run.mask_files)
    needs_image = run.alpha is not None or run.mask_files.needs_image
    videos = []
    # Of the pictures on their way, by their index.
    made_of: dict[int, str] = {}

    def photographs() -> Iterator[Picture]:
        for picture in filter(run.is_own, run.source):
            if picture.is_video:
                videos.append(picture)
            else:
                yield picture

    def load(picture: Picture) -> Photograph:
        def check(found: str) -> None:
            if output.is_finished(picture, found):
                raise AlreadyLabelled(picture.name)

        read = run.source.read(picture)
        image, made_of[picture.index] = run.reader.photograph(read, check)
        is_kept = needs_image and run.reader.may_wait(image)
        return run.photograph(picture.name, image, is_kept)

    def finish(picture: Picture, result: Result) -> Labelled | UserError:
        found = made_of.pop(picture.index)
        try:
            if not needs_image:
                run.mask_files.write(run.out, picture, result.image, result)
                output.write(picture, result.image, result.label, found)
            else:
                with run.reader.kept_or_read_again(picture, result.image, found) as image:
                    run.mask_files.write(run.out, picture, image, result)
                    output.write(picture, image, result.label, found)
        except UserError as error:
            if ends_the_run(error):
                raise
            return error
        return run.labelled(result)

    with run.progress_bar() as bar:
        for _, result in run.parser.results(photographs(), load, finish):
            run.count(result)
            bar.update()
        for video in videos:
            run.count(_label_video(run, video, output))
            bar.update()


def _label_video(run: Run, video: Picture, output: "FileOutput") -> Labelled | UserError:
    path = video.source
    try:
        run.mask_files.require_photograph(video)
        reader, made_of = run.reader, None
        if camera.is_camera(path):
            reader = camera.Camera(run.options.limits.frames)
            camera.require_new(output.paths(video)[0])
        else:
            made_of = fingerprint_of(path)
            if output.is_finished(video, made_of):
                return AlreadyLabelled(video.name)
        with run.bar_of(None, "frame", one_line(video.name)) as bar:

            def start(num_frames: int | None) -> None:
                bar.total = num_frames
                bar.refresh()

            parse_video(
                run.parser,
                reader,
                path,
                *output.paths(video),
                overlay_alpha=run.options.overlay_alpha,
                steady=not run.options.no_steady,
                photograph_of=functools.partial(run.photograph, video.name),
                made_of=made_of,
                on_start=start,
                on_frame=bar.update,
            )
    except UserError as error:
        if ends_the_run(error):
            raise
        return error
    return Labelled(video.name)


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

    def paths(self, picture: Picture) -> tuple[epath.Path, epath.Path | None]:
        """Returns the PNG of a photograph's labels and the JPEG of its overlay, None for none.

        Of a video, the folder of its frames' PNGs and the mp4. That folder keeps the suffix: a
        folder of photographs may have the name without it.
        """
        label, overlay = f"{picture.stem}.png", f"{picture.stem}.jpg"
        if picture.is_video:
            label, overlay = picture.name, f"{picture.stem}.mp4"
        has_overlay = self._alpha is not None
        return (
            self._out / "labels" / label,
            self._out / "overlays" / overlay if has_overlay else None,
        )

    def is_finished(self, picture: Picture, made_of: str) -> bool:
        """Returns whether a picture's outputs are there and of what its file holds now.

        Args:
          picture: the photograph or video, whose file must not be newer.
          made_of: the fingerprint of its content.
        """
        label, overlay = self.paths(picture)
        first = label / FIRST_FRAME if picture.is_video else label
        others = self._mask_files.paths(self._out, picture) if self._mask_files else ()
        try:
            changed = epath.Path(picture.source).stat().mtime
            are_newer = all(
                path.stat().mtime >= changed for path in (label, overlay, *others) if path
            )
            if not are_newer:
                return False
            return made_of_in(first.read_bytes()) == made_of
        except OSError:
            return False

    def write(self, picture: Picture, image: np.ndarray, label: np.ndarray, made_of: str) -> None:
        """Writes a photograph's files, the label map last.

        Args:
          picture: the photograph.
          image: uint8 `[H, W, 3]` RGB.
          label: uint8 `[H, W]`.
          made_of: the fingerprint of the photograph's file.

        Raises:
          OutputError: as `write`.
        """
        label_path, overlay_path = self.paths(picture)
        if overlay_path is not None:
            write(overlay_path, overlay_jpeg(image, label, self._label_set, self._alpha))
        write(label_path, label_png(label, self._label_set, picture.name, made_of))
