"""A trained network as something that takes photographs and gives what is in them.

The way of a photograph: it is loaded and its faces are found; `views.plan` decides what the network
is shown; batches of views go through the network; `composite` makes one label map of what it says.
Loading and making label maps happen in threads beside the network.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import composite, verdict, views
from dmlcsr_jax.predict.as_image import as_image, as_list, check_image
from dmlcsr_jax.predict.faces import (
    Detector,
    check_choice,
    checked,
    choose,
    detector_of,
    find,
)
from dmlcsr_jax.predict.networks import open_network
from dmlcsr_jax.predict.pipeline import Photograph, in_order, scored
from dmlcsr_jax.predict.result import Result

__all__ = ["FaceParser", "Photograph"]


class FaceParser:
    """Parses photographs with a checkpoint's network, with the preprocessing of evaluation.

    Photographs of any size, or the faces in them, are fitted into the network's input, parsed in
    batches of few static shapes, split over this process's devices, and their scores are mapped
    back to the original size, where the best class of each pixel is taken.

    It can be pickled, as its arguments; it does not work in processes that are forked.

    Attributes:
      network: what gives scores; see `networks.Network`.
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
        face: str | int = "all",
        batch_size: int = 8,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        margin: float | None = None,
        wide_margin: float | None = None,
        dtype: str = "float32",
        backend: str | None = None,
        num_threads: int | None = None,
    ):
        """Loads the network, a checkpoint's onto this process's devices.

        Args:
          checkpoint: as `model.resolve` takes it: a checkpoint's path, a run's workdir, or
            "default" for the model that comes with the package; or a `model.onnx` that
            `python -m dmlcsr_jax.export` wrote, which is run without JAX.
          faces: which faces calling the parser looks at: "auto" for those that the detector of the
            extra `faces` finds, where it is installed; "whole" for none, photographs are parsed
            complete; or a function from uint8 `[H, W, 3]` RGB to boxes or `Face`s.
          face: which of them are labelled: "all"; "largest"; "central", the one nearest to the
            photograph's middle; or a number, 0 for the largest. The others are background.
          batch_size: photographs (or faces) that go to the devices together.
          flip: averages with the mirrored photograph.
          scales: averages over these multiples of the input size.
          margin: what is shown beyond a face's box on each side, as a share of its longer side;
            None: as the network was trained, or 0.4 where it was trained on uncropped images.
          wide_margin: the same of a second view of each face that is found, around which there is
            one of the complete person or photograph; they label what no first view shows, such as
            hair and clothes; 0: there are none; None: 1.5, or 0 where the network was trained on
            crops or the margin is as wide.
          dtype: of the computation, "float32" or, on JAX and OpenVINO, "bfloat16".
          backend: "jax", or for a `model.onnx` and for "default", which is there so too,
            "openvino" or "onnx"; None: the fastest that is installed and runs it.
          num_threads: that read and write, and that compute on an ONNX runtime; None: one a core.

        Raises:
          UserError: where the checkpoint cannot be read or a value is impossible.
        """
        if batch_size < 1:
            raise UserError(f"the batch size is {batch_size}; it must be 1 or more.")
        self._arguments = {
            "checkpoint": checkpoint,
            "faces": faces,
            "face": face,
            "batch_size": batch_size,
            "flip": flip,
            "scales": scales,
            "margin": margin,
            "wide_margin": wide_margin,
            "dtype": dtype,
            "backend": backend,
            "num_threads": num_threads,
        }
        self._process = os.getpid()
        self._detector = detector_of(faces)
        self._face = check_choice(face)
        self.network = open_network(
            checkpoint,
            backend=backend,
            batch_size=batch_size,
            flip=flip,
            scales=scales,
            dtype=dtype,
            num_threads=num_threads or 0,
        )
        self.metadata = self.network.metadata
        self.label_set = self.metadata.label_set
        self._batch_size = batch_size
        self.margin, self.wide_margin = views.margins(self.metadata, margin, wide_margin)
        self._num_threads = max(2, num_threads or os.cpu_count() or 1)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the arguments that make it again: in another process the network is loaded."""
        return self._arguments

    def __setstate__(self, arguments: dict[str, Any]):
        """Loads the network anew."""
        self.__init__(**arguments)

    @property
    def num_at_a_time(self) -> int:
        """How many photographs `results` holds at most: being read, scored and finished."""
        return 4 * self._batch_size + 4 * self._num_threads + 2

    @property
    def finds_faces(self) -> bool:
        """Whether a detector looks for faces where none are given."""
        return self._detector is not None

    def __call__(self, photographs: Any, *, faces: Any = None) -> Result | list[Result]:
        """Parses one photograph, or several, which may differ in size.

        Args:
          photographs: a photograph or a list of them, each as `as_image` takes it: a path, encoded
            bytes, a binary file object, a picture of Pillow, or uint8 `[H, W, 3]` RGB of NumPy, JAX
            or PyTorch; or an array `[N, H, W, 3]`.
          faces: as `FaceParser` takes it, for this call; or the boxes of the faces, as in
            `Photograph`, one list of them a photograph. None: as the parser was told.

        Returns:
          A `Result`, or a list of them in order.

        Raises:
          UserError: where a photograph cannot be read, the list is empty, or the detector fails;
            `results` goes on with the others.
        """
        given, is_one = as_list(photographs)
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
            if pair[1] is not None or detector is None:
                return Photograph(image, () if pair[1] is None else pair[1], name)
            return self.found(image, name, detector)

        found = []
        for _, result in self.results(zip(given, boxes, strict=True), load):
            if isinstance(result, UserError):
                raise result
            found.append(result)
        return found[0] if is_one else found

    def found(
        self, image: np.ndarray, name: str = "", detector: Detector | None = None
    ) -> Photograph:
        """Returns the photograph with the faces that a detector finds in it, the largest first.

        Args:
          image: uint8 `[H, W, 3]` RGB.
          name: the photograph's.
          detector: None: the parser's; where it has none either, all of the photograph is parsed.

        Raises:
          UserError: where `image` is no such array, or the detector fails.
        """
        check_image(image)
        detector = detector or self._detector
        if detector is None:
            return Photograph(image, name=name)
        faces = find(detector, image, name)
        return Photograph(image, faces, name, are_found=bool(faces), is_searched=True)

    def results(
        self,
        items: Iterable[Any],
        load: Callable[[Any], Photograph],
        finish: Callable[[Any, Result], Any] = lambda item, result: result,
        steady: Any = None,
    ) -> Iterator[tuple[Any, Any]]:
        """Parses photographs one after the other while others are read and written.

        No more than a few batches of photographs are held at a time, however many items there are.

        Args:
          items: what `load` makes photographs of.
          load: called in a thread; `found` makes a photograph of an image. A `UserError` it raises
            becomes the item's result.
          finish: called in a thread with item and `Result`; by default returns the result.
          steady: of frames, what holds their faces and scores steady; see `steady.Steady`.

        Returns:
          Iterator of item and result, in the order of `items`: what `finish` returned, or the
          `UserError` that `load` raised. Other errors, and those of `finish`, are raised.

        Raises:
          UserError: in a process that was forked after the parser was made.
        """
        if os.getpid() != self._process:
            raise UserError(
                "this FaceParser was made before the process was forked, and its network's threads "
                "are in the other one; make it in this process, or start processes by 'spawn', to "
                "which it can be given."
            )

        def loaded(item) -> Photograph:
            try:
                photograph = load(item)
                check_image(photograph.image)
                faces = checked(photograph.faces, photograph.name)
                return dataclasses.replace(photograph, faces=faces, item=item)
            except UserError as error:
                return Photograph(np.empty((0, 0, 3), np.uint8), item=item, error=error)

        def finished(photograph: Photograph) -> tuple[Any, Any]:
            if photograph.error is not None:
                return photograph.item, photograph.error
            return photograph.item, finish(photograph.item, self._result(photograph))

        with concurrent.futures.ThreadPoolExecutor(self._num_threads) as pool:
            try:
                ahead = self._batch_size + self._num_threads
                if steady is None:
                    # In one task: what is read may wait for memory that the others' views free.
                    planned = in_order(lambda i: self._planned(loaded(i)), items, pool, ahead)
                else:
                    followed = map(steady.follow, in_order(loaded, items, pool, ahead))
                    planned = in_order(self._planned, followed, pool, self._num_threads)
                done = scored(self.network, planned, self._batch_size)
                if steady is not None:
                    done = map(steady.average, done)
                yield from in_order(finished, done, pool, self._num_threads)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _planned(self, photograph: Photograph) -> tuple[Photograph, list[np.ndarray]]:
        """Decides what the network is shown, and makes the views of a first batch."""
        if photograph.error is not None:
            return photograph, []
        hw, size, faces = photograph.image.shape[:2], self.metadata.image_size, photograph.faces
        chosen = choose(faces, hw, self._face)
        is_filled = len(faces) == 1 and faces[0].fills(hw, self.margin)
        is_filled &= photograph.are_found and self.metadata.crop_margin is None
        if not faces or is_filled:
            photograph.views = [views.complete(hw, size, faces, tuple(range(len(faces))))]
        else:
            photograph.views = views.plan(
                hw,
                faces,
                chosen,
                size,
                margin=self.margin,
                wide_margin=self.wide_margin if photograph.are_found else 0.0,
            )
        image = photograph.image
        first = photograph.views[: self._batch_size] if photograph.is_kept else photograph.views
        inputs = [views.shown(image, view.matrix, size) for view in first]
        if not photograph.is_kept:
            # Its memory is needed by the next one.
            if photograph.are_found:
                photograph.reduced = views.shown(image, views.complete(hw, size).matrix, size)
            photograph.image = np.broadcast_to(np.uint8(0), image.shape)
        return photograph, inputs

    def _result(self, photograph: Photograph) -> Result:
        """Makes the label map of what the network says of a photograph's views."""
        image, hw = photograph.image, photograph.image.shape[:2]
        faces, seen = photograph.faces, photograph.views
        if photograph.are_found:
            faces, seen = verdict.true_faces(faces, seen, self.label_set)
        if not faces and photograph.faces:
            view = views.complete(hw, self.metadata.image_size)
            shown = photograph.reduced
            if shown is None:
                shown = views.shown(image, view.matrix, view.size)
            view.scores = np.asarray(self.network.scores(shown[None]))[0]
            seen = [view]
        if not faces and photograph.is_searched:
            seen = [verdict.person_alone(seen[0], self.label_set)]
        layers = composite.blend(seen, faces, self.label_set)
        label = composite.label_map(layers, hw)
        owner = composite.owner_map(layers, hw, faces)
        chosen = choose(faces, hw, self._face)
        if len(chosen) < len(faces):
            label[~np.isin(owner, np.array(chosen, int) + 1)] = 0
        return Result(
            image,
            label,
            owner,
            verdict.judged(faces, seen, hw, self.label_set),
            self.label_set,
            name=photograph.name,
            layers=layers,
            is_searched=photograph.is_searched,
        )
