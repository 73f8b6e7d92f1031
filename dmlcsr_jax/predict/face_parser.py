"""A trained network as something that takes photographs and gives what is in them."""

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
from etils import epath

from dmlcsr_jax.data import warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.as_image import as_image
from dmlcsr_jax.predict.check_image import check_image
from dmlcsr_jax.predict.faces import Box, Detector, Face, as_face, detector_of, find
from dmlcsr_jax.predict.margins import margins
from dmlcsr_jax.predict.networks import open_network
from dmlcsr_jax.predict.result import Result
from dmlcsr_jax.predict.scoring import Photograph, Scorer, Views, in_order

# By the figures in docs/results.md: more of cloth and hair against finer parts.
# Of a photograph that may not wait, all views wait.
_MOST_FACES = 1000

__all__ = ["FaceParser", "Photograph"]


class FaceParser:
    """Parses photographs with a checkpoint's network, with the preprocessing of evaluation.

    Photographs of any size, or the faces in them, are fitted into the network's input, parsed in
    batches of one static shape, split over this process's devices, and their scores are mapped back
    to the original size, where the best class of each pixel is taken.

    Attributes:
      network: what gives scores.
      metadata: what the network says of itself: input size, normalisation, label set.
      label_set: meaning of the labels.
      margin: what is shown beyond a face's box on each side, as a share of its longer side.
      wide_margin: the same of a wider view of each face that is found; 0: there is none.
      finds_faces: whether a detector looks for faces where none are given.
    """

    def __init__(
        self,
        checkpoint: epath.PathLike = "default",
        *,
        faces: str | Detector = "auto",
        batch_size: int = 8,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        margin: float | None = None,
        wide_margin: float | None = None,
        dtype: str = "float32",
        backend: str | None = None,
    ):
        """Loads the network, a checkpoint's onto this process's devices.

        Args:
          checkpoint: as `model.resolve` takes it: a checkpoint's path, a run's workdir, or
            "default" for the model that comes with the package; or a `model.onnx` that
            `python -m dmlcsr_jax.export` wrote, which is run without JAX.
          faces: which faces calling the parser looks at: "auto" for those that the detector of the
            extra `faces` finds, where it is installed; "whole" for none, photographs are parsed
            complete; or a function from uint8 `[H, W, 3]` RGB to boxes or `Face`s.
          batch_size: photographs (or faces) that go to the devices together.
          flip: averages with the mirrored photograph.
          scales: averages over these multiples of the input size.
          margin: what is shown beyond a face's box on each side, as a share of its longer side;
            None: as the network was trained, or 0.4 where it was trained on uncropped images.
          wide_margin: the same of a second view of each face that is found, which labels what no
            first view shows, such as hair and clothes; 0: there is none; None: 0.8, or 0 where the
            network was trained on crops or the margin is as wide.
          dtype: of the computation, "float32" or, on JAX and OpenVINO, "bfloat16".
          backend: "jax", or for a `model.onnx` and for "default", which is there so too,
            "openvino" or "onnx"; None: the fastest that is installed and runs it.

        Raises:
          UserError: where the checkpoint cannot be read or a value is impossible.
        """
        if batch_size < 1:
            raise UserError(f"the batch size is {batch_size}; it must be 1 or more.")
        self._detector = detector_of(faces)
        self.network = open_network(
            checkpoint,
            backend=backend,
            batch_size=batch_size,
            flip=flip,
            scales=scales,
            dtype=dtype,
        )
        self.metadata = self.network.metadata
        self.label_set = self.metadata.label_set
        self._batch_size = batch_size
        self.margin, self.wide_margin = margins(self.metadata, margin, wide_margin)
        self._scorer = Scorer(self.network, self.metadata.image_size)
        self._num_threads = max(2, os.cpu_count() or 1)

    @property
    def num_at_a_time(self) -> int:
        """How many photographs `stream` holds at most: being read, scored and finished."""
        return 4 * self._batch_size + 2 * self._num_threads + 2

    @property
    def finds_faces(self) -> bool:
        """Whether a detector looks for faces where none are given."""
        return self._detector is not None

    def __call__(self, photographs: Any, *, faces: Any = None) -> Result | list[Result]:
        """Parses one photograph, or several, which may differ in size.

        Args:
          photographs: a photograph or a list of them, each as `as_image` takes it: a path, a
            picture of Pillow, or uint8 `[H, W, 3]` RGB.
          faces: as `FaceParser` takes it, for this call; or the boxes of the faces, as in
            `Photograph`, one list of them a photograph. None: as the parser was told.

        Returns:
          A `Result`, or a list of them in order.

        Raises:
          UserError: where a photograph cannot be read, the list is empty, or the detector fails;
            `results` goes on with the others.
        """
        is_one = isinstance(photographs, str | os.PathLike | np.ndarray | PIL.Image.Image)
        given = [photographs] if is_one else _as_list(photographs)
        is_way = faces is None or isinstance(faces, str) or callable(faces)
        detector = self._detector if faces is None else detector_of(faces) if is_way else None
        boxes = [None] * len(given) if is_way else [faces] if is_one else list(faces)
        if len(boxes) != len(given):
            raise UserError(
                f"there are boxes for {len(boxes)} photographs, not for {len(given)}; give one "
                "list of boxes a photograph."
            )

        def load(pair) -> Photograph:
            image, name = as_image(pair[0])
            if pair[1] is not None:
                return Photograph(image, pair[1], name)
            return self._found(image, name, detector)

        items = list(zip(given, boxes, strict=True))
        if is_one:
            # One face needs no batch of many.
            photograph = load(items[0])
            is_single = photograph.complete or len(photograph.boxes) <= 1
            batch_size = 1 if is_single else self._batch_size
            return _values(self._results([photograph], lambda item: item, batch_size))[0]
        return _values(self._results(items, load, self._batch_size))

    def found(self, image: np.ndarray, name: str = "") -> Photograph:
        """Returns the photograph with the faces that the parser's detector finds in it.

        Where there is no detector, or it finds none, all of the photograph is parsed; and so is one
        that a single face fills, unless the network was trained on crops.

        Args:
          image: uint8 `[H, W, 3]` RGB.
          name: the photograph's.

        Raises:
          UserError: where `image` is no such array, or the detector fails.
        """
        return self._found(image, name, self._detector)

    def _found(self, image: np.ndarray, name: str, detector: Detector | None) -> Photograph:
        check_image(image)
        faces = [] if detector is None else find(detector, image, name)
        fills = len(faces) == 1 and faces[0].fills(image.shape[:2], self.margin)
        is_complete = fills and self.metadata.crop_margin is None
        return Photograph(image, faces, name, is_complete, is_wide=bool(faces and self.wide_margin))

    def parse(self, image: np.ndarray, boxes: Sequence[Box | Face] = ()) -> np.ndarray:
        """Returns uint8 `[H, W]`, the label of each pixel of one photograph, in a batch of one.

        Args:
          image: uint8 `[H, W, 3]` RGB.
          boxes: as in `Photograph`.

        Raises:
          UserError: where `image` is no such array or a box is empty.
        """
        return self._parse([Photograph(image, boxes)], batch_size=1)[0]

    def parse_batch(
        self, images: Iterable[np.ndarray], boxes: Iterable[Sequence[Box | Face]] | None = None
    ) -> list[np.ndarray]:
        """Returns the label maps of several photographs, which may differ in size.

        Args:
          images: uint8 `[H, W, 3]` RGB each.
          boxes: those of each photograph, as in `Photograph`; None: no boxes.

        Returns:
          uint8 `[H, W]` for each photograph, in order.

        Raises:
          UserError: where an image is no such array or a box is empty.
        """
        images = list(images)
        boxes = [()] * len(images) if boxes is None else list(boxes)
        photographs = [Photograph(*pair) for pair in zip(images, boxes, strict=True)]
        return self._parse(photographs, self._batch_size)

    def _parse(self, photographs: list[Photograph], batch_size: int) -> list[np.ndarray]:
        label = lambda views: views.composite.label  # noqa: E731
        return _values(self._stream(photographs, lambda item: item, label, batch_size))

    def stream(
        self,
        items: Iterable[Any],
        load: Callable[[Any], Photograph],
        finish: Callable[[Any, Photograph, np.ndarray], Any],
    ) -> Iterator[tuple[Any, Any]]:
        """Parses photographs one after the other while others are read and written.

        No more than a few batches of photographs are held at a time, however many items there are.

        Args:
          items: what `load` makes photographs of.
          load: called in a thread; a `UserError` it raises becomes the item's result.
          finish: called in a thread with item, photograph and label uint8 `[H, W]`.

        Returns:
          Iterator of item and result, in the order of `items`: what `finish` returned, or the
          `UserError` that `load` raised. Other errors, and those of `finish`, are raised.
        """

        def finish_views(views: Views):
            return finish(views.item, views.photograph, views.composite.label)

        return self._stream(items, load, finish_views, self._batch_size)

    def results(
        self,
        items: Iterable[Any],
        load: Callable[[Any], Photograph],
        finish: Callable[[Any, Result], Any] = lambda item, result: result,
    ) -> Iterator[tuple[Any, Any]]:
        """Like `stream`, with all that is known of a photograph.

        Args:
          items: as in `stream`.
          load: as in `stream`; `found` makes a photograph of an image.
          finish: called in a thread with item and `Result`; by default returns the result.

        Returns:
          As `stream`.
        """
        return self._results(items, load, self._batch_size, finish)

    def _results(self, items, load, batch_size, finish=lambda item, result: result):
        def finish_views(views: Views):
            photograph, composite = views.photograph, views.composite
            result = Result(
                photograph.image,
                composite.label,
                composite.owner,
                views.faces,
                self.label_set,
                name=photograph.name,
                probabilities=lambda part: self._probabilities(photograph, part),
            )
            return finish(views.item, result)

        return self._stream(items, load, finish_views, batch_size)

    def _probabilities(self, photograph: Photograph, part: int) -> np.ndarray:
        probability = lambda views: views.composite.probability  # noqa: E731
        return _values(self._stream([photograph], lambda item: item, probability, 1, part))[0]

    def _stream(
        self, items, load, finish: Callable[[Views], Any], batch_size: int, part: int | None = None
    ) -> Iterator[tuple[Any, Any]]:
        def views_of(item) -> Views:
            try:
                return self._views(item, load(item), batch_size, part)
            except UserError as error:
                return Views(item, error=error)

        def finish_views(views: Views):
            if views.error is not None:
                return views.error
            views.wait()
            return finish(views)

        with concurrent.futures.ThreadPoolExecutor(self._num_threads) as pool:
            ahead = batch_size + self._num_threads
            loaded = (views for _, views in in_order(views_of, items, pool, ahead))
            scored = self._scorer.score(loaded, batch_size, pool)
            try:
                for done, result in in_order(finish_views, scored, pool, self._num_threads):
                    yield done.item, result
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _views(self, item, photograph: Photograph, ahead: int, part: int | None) -> Views:
        """Decides what the network is shown, and fits the first `ahead` views into its input."""
        image, size = photograph.image, self.metadata.image_size
        check_image(image)
        if len(photograph.boxes) > _MOST_FACES:
            raise UserError(
                f"{photograph.name or 'the photograph'} has {len(photograph.boxes):,} faces, more "
                f"than the limit of {_MOST_FACES:,}; give fewer boxes."
            )
        faces = [as_face(box) for box in photograph.boxes]
        is_complete = photograph.complete or not faces
        if is_complete and part is None and self.network.label:
            return Views(item, photograph.for_finish(), faces, label=self.network.label(image))
        # From edges counted from the corner to coordinates with pixel centres at integers.
        shown = [self.margin, self.wide_margin] if photograph.is_wide else [self.margin]
        matrices = [
            warp.box_matrix(np.array(face.box) - 0.5, size, margin=margin, angle=-face.roll)
            for margin in shown
            for face in faces
            if not is_complete
        ] or [warp.box_matrix(warp.photograph_box(image.shape[:2]), size)]
        # Where the photograph may not wait, its views do; else only the first of them.
        num_made = ahead if photograph.is_kept else len(matrices)
        inputs = [self._scorer.input(image, matrix) for matrix in matrices[:num_made]]
        photograph = photograph.for_finish()
        known = {"num_close": len(faces), "is_complete": is_complete}
        return Views(item, photograph, faces, matrices, inputs, part, **known)


def _as_list(photographs: Any) -> list[Any]:
    try:
        given = list(photographs)
    except TypeError as error:
        raise UserError(
            f"{type(photographs).__name__} is no photograph; give a path, a picture of Pillow, a "
            "uint8 array [H, W, 3], or a list of these."
        ) from error
    if not given:
        raise UserError("the list of photographs is empty; give one or more.")
    return given


def _values(done: Iterator[tuple[Any, Any]]) -> list[Any]:
    """Returns the results alone; raises the first error among them."""
    values = []
    for _, value in done:
        if isinstance(value, UserError):
            raise value
        values.append(value)
    return values
