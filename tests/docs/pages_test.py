"""README.md and the pages of docs/: what their links, commands and Python name exists."""

import ast
import importlib
import importlib.util
import pathlib
import re

import pytest
from dmlcsr_jax.configs import default

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [path.name for path in PAGES]


def headings(path):
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.+?)^```$", path.read_text(), re.M | re.S)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target), link


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_commands_name_modules_configs_and_fields_that_exist(path):
    text = path.read_text()
    for module in re.findall(r"python3? -m ((?:dmlcsr_jax|docs|benchmarks)[\w.]*)", text):
        assert importlib.util.find_spec(module.rstrip(".")), module
    for config in re.findall(r"--config=(configs/[\w/]+\.py)", text):
        assert (ROOT / config).is_file(), config
    config = default.get_config()
    for field in re.findall(r"--config\.([a-z][\w.]*)=", text):
        value = config
        for name in field.split("."):
            assert name in value, field
            value = value[name]


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_python_is_valid(path):
    for code in blocks(path, "python"):
        ast.parse(code)


def test_the_set_up_is_two_commands():
    commands = "".join(blocks(ROOT / "README.md", "sh"))
    assert "--config=configs/synthetic.py --workdir=runs/synthetic\n" in commands
    assert (
        "<!-- test command -->\n```sh\npython3 -m pip install -e '.[test]' && "
        in (ROOT / "README.md").read_text()
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs").glob("*.py")))
def test_scripts_find_what_they_import(name):
    try:
        importlib.import_module(f"docs.{name}")
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("dmlcsr_jax", "docs"):
            raise
        pytest.skip(str(error))
