"""Paths that may be remote, told from addresses that nothing here reads."""

import importlib.util
import os

from etils import epath

from dmlcsr_jax.errors import UserError


def as_path(place: epath.PathLike) -> epath.Path:
    """Returns a local path, or one in a bucket (`gs://`).

    Raises:
      UserError: where it is another address, such as a page on the web.
    """
    text = os.fspath(place)
    scheme, found, _ = text.partition("://")
    # etils reads these too, where fsspec can.
    is_read = scheme == "gs" or (scheme == "s3" and importlib.util.find_spec("s3fs"))
    if found and not is_read and "/" not in scheme:
        raise UserError(f"{text} is an address; download what is there and give its file.")
    return epath.Path(place)
