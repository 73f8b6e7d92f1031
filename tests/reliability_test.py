"""The tests that docs/reliability.md names exist, and are slow where it says so."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text()


def all_tests(path):
    """Returns the names of a file's tests, those in classes as `Class::test`, to whether slow."""
    found = {}

    def collect(body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}::")
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                found[prefix + node.name] = any(
                    ast.unparse(mark) == "pytest.mark.slow" for mark in node.decorator_list
                )

    collect(ast.parse(path.read_text()).body, "")
    return found


def test_each_test_that_is_named_exists():
    named = re.findall(r"`(tests/\S+?\.py)(?:::(\S+?))?`( \(slow\))?", TEXT)
    assert len(named) > 30
    for path, test, slow in named:
        if path == "tests/reliability_test.py":
            continue
        there = all_tests(ROOT / path)
        assert there, path
        if test:
            assert there.get(test) is bool(slow), f"{path}::{test}"


def test_every_row_names_a_test():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| fault |")]
    assert rows
    assert all(re.search(r"`tests/\S+\.py", row) for row in rows)


def test_the_limits_that_are_stated_are_the_defaults():
    from dmlcsr_jax.data.limits import DEFAULT

    text = (ROOT / "SECURITY.md").read_text()
    stated = (
        f"{DEFAULT.file_bytes // 2**20} MiB a file, {DEFAULT.pixels // 10**6} million pixels a "
        f"picture, {DEFAULT.frames:,} frames a video,\n{DEFAULT.seconds:g} seconds to decode"
    )
    assert stated in text
