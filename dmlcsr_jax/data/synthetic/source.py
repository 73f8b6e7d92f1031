"""A source of drawn faces."""

from dmlcsr_jax.data.synthetic.drawing import draw_face


class SyntheticSource:
    """A random-access source of drawn faces, `{"image", "label", "name"}`.

    Args:
      num_examples: number of faces, 1 or more.
      size: side of the square image and label, pixels, 32 or more.
      seed: 0 or more; sources of different seeds share no face.
    """

    def __init__(self, num_examples: int, size: int, seed: int = 0):
        self._num_examples = num_examples
        self._size = size
        self._seed = seed

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> dict:
        """Draws face `index`: "image" uint8 `[S, S, 3]` RGB, "label" uint8 `[S, S]`, "name"."""
        if not 0 <= index < self._num_examples:
            raise IndexError(index)
        image, label = draw_face(int(index), self._size, self._seed)
        return {"image": image, "label": label, "name": f"face_{index:06d}"}
