"""Says which extras break another when they are installed one after the other.

    python launch/check_extras.py
    python launch/check_extras.py litert demo

pip keeps what is installed where the newly wanted packages allow it, else replaces it and only
warns of what the packages that were there before need. Each extra is resolved once, without
installing anything; what pip would do for each pair, in both orders, follows from that. Exit status
1: a pair breaks.
"""

import configparser
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
# They are for one kind of machine each, and large.
_LEFT_OUT = ("cuda", "tpu")


class Package(NamedTuple):
    """A version of a package, and what it needs where it is installed here."""

    version: str
    needs: tuple[Requirement, ...]


def resolve(extra: str) -> dict[str, Package]:
    """Returns what pip would install for an extra into an empty environment, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        command = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run(
            [sys.executable, "-m", *command, f"--report={report}", f"{ROOT}[{extra}]"], check=True
        )
        items = json.loads(report.read_text())["install"]
    return {
        canonicalize_name(item["metadata"]["name"]): Package(
            item["metadata"]["version"],
            tuple(_needs(item["metadata"], item.get("requested_extras", ()))),
        )
        for item in items
    }


def _needs(metadata, extras) -> Iterator[Requirement]:
    for text in metadata.get("requires_dist", ()):
        need = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if not need.marker or any(map(need.marker.evaluate, environments)):
            yield need


def broken(first: Mapping[str, Package], second: Mapping[str, Package]) -> list[str]:
    """Returns what breaks in `first` where `second` is installed after it, a sentence each."""
    wanted = [need for package in second.values() for need in package.needs]
    replaced = {
        name: second[name].version
        for need in wanted
        if (name := canonicalize_name(need.name)) in first
        and name in second
        and not need.specifier.contains(first[name].version, prereleases=True)
    }
    now = {**first, **{name: second[name] for name in replaced}}
    return [
        f"{name} {package.version} needs {need}, not {replaced[needed]}"
        for name, package in now.items()
        for need in package.needs
        if (needed := canonicalize_name(need.name)) in replaced
        and not need.specifier.contains(replaced[needed], prereleases=True)
    ]


def main(extras: list[str]) -> int:
    """Prints what breaks; returns the exit status."""
    if not extras:
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        extras = [name for name in config["options.extras_require"] if name not in _LEFT_OUT]
    resolved = {extra: resolve(extra) for extra in extras}
    status = 0
    for first, second in itertools.permutations(extras, 2):
        for sentence in broken(resolved[first], resolved[second]):
            print(f"{second} after {first}: {sentence}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
