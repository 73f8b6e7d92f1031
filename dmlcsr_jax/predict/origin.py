"""What a label map was made of and how, kept as texts in its PNG."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import PIL.Image
import PIL.PngImagePlugin
from etils import epath

# Pillow opens no PNG with a compressed text of more than a megabyte.
_MOST_COMPRESSED = 2**19


@dataclasses.dataclass(frozen=True)
class Origin:
    """Of one photograph or video in one run.

    Attributes:
      made_of: the fingerprint of its content.
      settings: the digest of all that decides its labels.
      source: the digest of where it lies; "" for a record.
      overlay: share of the overlay's tint; "" for no overlay.
    """

    made_of: str
    settings: str
    source: str = ""
    overlay: str = ""

    def texts(self, record: str = "") -> dict[str, str]:
        """Returns what is kept: the fields that say something, and the line of `--json`."""
        texts = dataclasses.asdict(self) | {"record": record}
        return {key: text for key, text in texts.items() if text}

    def is_of(self, texts: Mapping[str, str]) -> bool:
        """Returns whether a label map with these texts is of this photograph, or was once."""
        return (
            texts.get("source", self.source) == self.source or texts.get("made_of") == self.made_of
        )

    def made(self, texts: Mapping[str, str]) -> bool:
        """Returns whether the labels would be the same again."""
        return (texts.get("made_of"), texts.get("settings")) == (self.made_of, self.settings)


def digest(content: Any) -> str:
    """Returns 16 hexadecimal digits that tell a JSON-serialisable value from any other."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def as_text(name: str) -> str:
    """Returns a name as a PNG can keep it: file names may be bytes that no text has."""
    return name.encode(errors="replace").decode()


def png_info(texts: Mapping[str, str]) -> PIL.PngImagePlugin.PngInfo:
    """Returns texts for Pillow to keep in a PNG."""
    info = PIL.PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text, zip=key == "record" and len(text) < _MOST_COMPRESSED)
    return info


def texts_in(png: bytes | epath.PathLike) -> dict[str, str]:
    """Returns the texts kept in a PNG, a file or its bytes; none where it is no such file."""
    try:
        data = png if isinstance(png, bytes) else epath.Path(png).read_bytes()
        with PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            return {key: text for key, text in picture.info.items() if isinstance(text, str)}
    # Of a file that is not ours, or damaged, Pillow raises what it likes.
    except Exception:
        return {}


def record_named(texts: Mapping[str, str], name: str) -> str | None:
    """Returns the kept line of `--json` under the name that the photograph has now."""
    try:
        return json.dumps(json.loads(texts["record"]) | {"name": name})
    except (KeyError, ValueError, TypeError):
        return None
