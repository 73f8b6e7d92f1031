"""What one file may cost: files are untrusted, and some are made to exhaust a machine."""

import dataclasses

from dmlcsr_jax.errors import UserError

_MOST = 2**53


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that is read of one file; a file beyond it is refused in one sentence.

    Attributes:
      file_bytes: of an encoded photograph or label map, and of every other file that is read at
        once; videos are read frame by frame and may be longer.
      pixels: of a photograph, a label map or a frame.
      frames: of a video.
      seconds: to decode a photograph or the next frame, where processes decode that can be ended.
    """

    file_bytes: int = 2**28
    pixels: int = 100_000_000
    frames: int = 216_000
    seconds: float = 60.0

    def __post_init__(self):
        """Checks the values.

        Raises:
          UserError: naming the one that is no possible number.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # What is not below is no number, or none that a machine counts to.
            if not 0 < value <= _MOST:
                raise UserError(
                    f"--max_{field.name} is {value}; it must be more than 0, and no more than "
                    f"{_MOST}."
                )


DEFAULT = Limits()
