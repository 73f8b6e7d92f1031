"""The lock file of the container and of the TPU VMs."""

import configparser
import re

from launch_bench import LAUNCH, ROOT

LOCK = (LAUNCH / "requirements.txt").read_text()


def name_of(requirement):
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0].replace("_", "-").lower()


def test_every_dependency_is_locked_by_hash():
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^ *#.*\n", "", LOCK))
    locked = {}
    for block in filter(None, map(str.strip, blocks)):
        assert re.match(r"[a-z0-9.-]+==\S+", block), block.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]
        locked[name_of(block.partition("==")[0])] = block
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    needed = [config["options"]["install_requires"], extras["tpu"], extras["gcs"]]
    names = {name_of(line) for text in needed for line in text.splitlines() if line.strip()}
    assert {"jax", "flax", "gcsfs"} <= names <= locked.keys()
    assert {"libtpu", "setuptools", "uv"} <= locked.keys()


def test_it_says_how_it_is_renewed_and_names_no_host():
    [command] = re.findall(r"(?m)^#    (uv pip compile .*)$", LOCK)
    assert {"--universal", "--generate-hashes", "--extra=tpu", "--extra=gcs"} <= set(
        command.split()
    )
    assert command.split()[-2:] == ["setup.cfg", "launch/requirements.in"]
    assert f"    {command}\n" in (LAUNCH / "README.md").read_text()
    assert "://" not in LOCK
    assert "index" not in re.sub("(?m)^[a-z0-9].*", "", LOCK)
