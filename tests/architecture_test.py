"""Who imports whom, read from the code: knowledge points downwards, files are short."""

import ast
import configparser
import functools
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dmlcsr_jax"
# From the top down; a room may import what is below it. In one tier rooms may import one another,
# but not in a circle. A module that is named alone has a place of its own.
TIERS = (
    ("dmlcsr_jax", "__main__", "main", "demo", "experiments"),
    ("training", "predict", "export"),
    ("evaluation",),
    ("losses", "convert_torch", "check_data"),
    ("config",),
    ("models", "checkpoints", "self_regulation"),
    ("data", "distributed", "visualization"),
    ("errors", "atomic_file", "progress", "configs"),
)
TIER_OF = {room: tier for tier, rooms in enumerate(TIERS) for room in rooms}
ROOT_MODULES = {
    "__init__",
    "__main__",
    "main",
    "config",
    "errors",
    "atomic_file",
    "progress",
    "visualization",
}
MAX_LINES = 350
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("dmlcsr_jax", *parts) if parts[0] == "configs" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# The configs are a room of the package, beside it.
FILES = {
    module_name(path): path
    for path in sorted({*PACKAGE.rglob("*.py"), *(ROOT / "configs").rglob("*.py")})
}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules that a file imports, also inside functions, each by its complete name."""
    names = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in FILES else node.module)
    return frozenset(names)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "dmlcsr_jax"} - {module}


def room_of(module: str) -> str:
    parts = module.split(".")[1:]
    names = (".".join(parts[:2]), parts[0]) if parts else ("dmlcsr_jax",)
    return next(name for name in names if name in TIER_OF)


def test_every_file_has_a_room_and_imports_files_that_exist():
    for module in FILES:
        room_of(module)
        assert own_imports(module) <= FILES.keys(), module


@pytest.mark.parametrize("room", [room for rooms in TIERS for room in rooms])
def test_imports_point_downwards(room):
    upwards = [
        f"{module} -> {name}"
        for module in FILES
        if room_of(module) == room
        for name in sorted(own_imports(module))
        if TIER_OF[room_of(name)] < TIER_OF[room]
    ]
    assert not upwards


def test_the_wheel_has_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    packages = {name for name, path in FILES.items() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(packages)


def test_no_two_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter({module: own_imports(module) for module in FILES}).prepare()


@pytest.mark.parametrize("tier", TIERS, ids=" ".join)
def test_no_two_rooms_of_a_tier_import_each_other_in_a_circle(tier):
    graph = {
        room: {
            room_of(name)
            for module in FILES
            if room_of(module) == room
            for name in own_imports(module)
        }
        & (set(tier) - {room})
        for room in tier
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("start", ["data", "models.metadata", "models.properties"])
def test_what_does_without_jax_imports_none(start):
    """Worker processes must not start an accelerator; exported networks run without JAX."""
    prefix = f"dmlcsr_jax.{start}"
    pending = [name for name in FILES if name == prefix or name.startswith(f"{prefix}.")]
    assert pending
    seen = set(pending)
    guilty = []
    while pending:
        module = pending.pop()
        guilty += [f"{module} -> {n}" for n in imports(module) if n.split(".")[0] in JAX]
        # A module's packages are imported with it.
        parts = [name.split(".") for name in (module, *own_imports(module))]
        names = {".".join(p[:end]) for p in parts for end in range(2, len(p) + 1)}
        pending += sorted(names - seen)
        seen |= names
    assert not sorted(guilty)


def test_private_modules_of_libraries_are_imported_in_files_named_so():
    assert not [
        f"{module} -> {name}"
        for module in FILES
        for name in sorted(imports(module))
        if any(part.startswith("_") and part != "__future__" for part in name.split("."))
        and not module.endswith("_private")
    ]


def test_files_are_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in ("dmlcsr_jax", "configs", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}


def test_the_packages_own_modules_are_few():
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT_MODULES
