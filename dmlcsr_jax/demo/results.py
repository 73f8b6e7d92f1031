"""The results that the page remembers between a visitor's choices."""

import collections
import secrets
import threading
import time

from dmlcsr_jax.predict.result import Result


class Results:
    """The newest results, by a key that nobody guesses; others are forgotten.

    Visits may be many, and their photographs large: the memory that is held for all of them
    together is bounded. The newest result is kept whatever its size.
    """

    def __init__(self, num_bytes: int, seconds: float):
        self._num_bytes = num_bytes
        self._seconds = seconds
        self._lock = threading.Lock()
        self._results: collections.OrderedDict[str, tuple[float, Result]]
        self._results = collections.OrderedDict()

    def add(self, result: Result) -> str:
        """Remembers a result, and returns its key."""
        key = secrets.token_hex()
        with self._lock:
            self._results[key] = time.monotonic(), result
            self._forget_old()
            while len(self._results) > 1 and self._size() > self._num_bytes:
                self._results.popitem(last=False)
        return key

    def get(self, key: str | None) -> Result | None:
        """Returns the result of a key, or None where it is forgotten."""
        with self._lock:
            self._forget_old()
            _, result = self._results.get(key, (0, None))
            return result

    def forget_old(self) -> None:
        """Forgets what has been remembered long enough."""
        with self._lock:
            self._forget_old()

    def _forget_old(self) -> None:
        before = time.monotonic() - self._seconds
        while self._results and next(iter(self._results.values()))[0] < before:
            self._results.popitem(last=False)

    def _size(self) -> int:
        return sum(_num_bytes(result) for _, result in self._results.values())


def _num_bytes(result: Result) -> int:
    return sum(array.nbytes for array in (result.image, result.label, result.instances))
