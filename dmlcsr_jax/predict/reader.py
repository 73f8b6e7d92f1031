"""Photographs and videos read in decoder processes, within a budget of memory."""

import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np
from etils import epath

from dmlcsr_jax.data.decode_in_worker import photograph_steps
from dmlcsr_jax.data.decode_video import VideoInfo, video_steps
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.photographs import Picture

# A decoded photograph, and what its decoder or its overlay take beside it.
_BYTES_PER_PIXEL = 3
_WORKING_BYTES_PER_PIXEL = 18


class Memory:
    """A budget of bytes that threads take and give back; a thread waits until enough are free.

    One who wants more than there is gets it once nobody else has any.
    """

    def __init__(self, num_bytes: int):
        self._num_bytes = num_bytes
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, num_bytes: int) -> Callable[[], None]:
        """Waits until there are as many, and returns a function that gives them back."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._taken or self._taken + num_bytes <= self._num_bytes
            )
            self._taken += num_bytes

        def give_back() -> None:
            with self._changed:
                self._taken -= num_bytes
                self._changed.notify_all()

        return give_back


class Reader:
    """Reads pictures one by one, from any number of threads.

    A photograph waits decoded for the network and for its overlay only where as many of its size
    as there can be at a time fit in `memory_bytes`; a larger one is read again when it is needed.
    As much again may be in work: being decoded, warped or drawn.
    """

    def __init__(self, pool: DecoderPool, memory_bytes: int, num_at_a_time: int):
        """Reads nothing yet.

        Args:
          pool: the processes, whose limits a file is held to.
          memory_bytes: for photographs that wait.
          num_at_a_time: how many may wait.
        """
        self._limits = pool.limits
        self._pool = pool
        self._memory = Memory(memory_bytes)
        self._memory_bytes = memory_bytes
        self._most_bytes = memory_bytes // num_at_a_time

    def may_wait(self, image: np.ndarray) -> bool:
        """Returns whether a photograph is small enough to be kept until its overlay is drawn."""
        return image.nbytes <= self._most_bytes

    def photograph(
        self, picture: Picture, check: Callable[[str], None] = lambda made_of: None
    ) -> tuple[np.ndarray, str]:
        """Returns a photograph, uint8 `[H, W, 3]` RGB, and its content's fingerprint.

        Args:
          picture: the photograph.
          check: called with the fingerprint before the photograph is decoded; may raise.

        Raises:
          UserError: where it cannot be read, or what `check` raises.
        """
        arguments = (picture.source, picture.title, self._limits)
        with self._pool.steps(picture.title, photograph_steps, *arguments) as advance:
            made_of, hw = advance()
            check(made_of)
            give_back = self._memory.take(math.prod(hw) * _WORKING_BYTES_PER_PIXEL)
            try:
                image = advance()
            except BaseException:
                give_back()
                raise
        if self.may_wait(image):
            give_back()
        else:
            # Those that wait are counted by number; this one counts as long as it is there.
            weakref.finalize(image, give_back)
        return image, made_of

    @contextlib.contextmanager
    def kept_or_read_again(
        self, picture: Picture, image: np.ndarray, made_of: str
    ) -> Iterator[np.ndarray]:
        """Gives a photograph for its overlay, as it waited or, where it might not, read again.

        Args:
          picture: the photograph.
          image: it, or something of its shape.
          made_of: its fingerprint.

        Raises:
          UserError: where its file has changed meanwhile.
        """
        if not self.may_wait(image):

            def check(found: str) -> None:
                if found != made_of:
                    raise UserError(
                        f"{picture.title} has changed while it was labelled; run again."
                    )

            yield self.photograph(picture, check)[0]
            return
        give_back = self._memory.take(math.prod(image.shape[:2]) * _WORKING_BYTES_PER_PIXEL)
        try:
            yield image
        finally:
            give_back()

    @contextlib.contextmanager
    def video(self, path: epath.Path) -> Iterator[tuple[VideoInfo, Iterator[np.ndarray]]]:
        """Gives what a video says of itself, and its frames, uint8 `[H, W, 3]` RGB.

        Raises:
          UserError: there or from the iterator, where the video cannot be read.
        """
        arguments = (str(path), video_steps, path, self._limits)
        with self._pool.steps(*arguments, ahead=True) as advance:
            yield advance(), _until_none(advance)

    def frames_at_a_time(self, info: VideoInfo) -> int:
        """Returns how many frames of a video may wait."""
        return max(1, self._memory_bytes // max(1, math.prod(info.hw) * _BYTES_PER_PIXEL))


def _until_none(advance: Callable[[], np.ndarray | None]) -> Iterator[np.ndarray]:
    while (frame := advance()) is not None:
        yield frame
