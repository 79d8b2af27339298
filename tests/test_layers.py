"""Imports run downwards only, and torch stays where it is needed."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dfgs

PACKAGE = Path(dfgs.__file__).parent
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"registry", "errors", "provenance", "isolation", "packs"}),
    frozenset({"samplers", "datasets", "drawn", "metrics", "results", "images", "cuhk03_mat"}),
    frozenset(
        {
            "bases",
            "config",
            "grid",
            "demands",
            "tables",
            "rendering",
            "stats",
            "figures",
            "feature_store",
            "feature_sets",
            "per_query",
            "audit",
            "runs",
        }
    ),
    frozenset(
        {
            "losses",
            "models",
            "data",
            "device",
            "compiler",
            "vision",
            "augmentation",
            "augmix",
            "products",
            "seeding",
            "decoded",
        }
    ),
    frozenset(
        {
            "training",
            "extraction",
            "scoring",
            "selection",
            "score_files",
            "report",
            "evaluation_figures",
            "disagreements",
            "doctor",
            "page",
            "launch",
        }
    ),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
HEAVY = {"torch", "torchvision", "open_clip", "safetensors"}
WITH_TORCH = LAYERS[3] | {"training", "extraction"}
STANDARD_LIBRARY_ONLY = LAYERS[0]
MODULES = sorted(PACKAGE.rglob("*.py"))
REGISTRIES_OF_NAMES = {"dfgs.samplers", "dfgs.datasets", "dfgs.losses", "dfgs.figures"}


def name_of(path: Path) -> str:
    """Dotted name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def room_of(name: str) -> str:
    """The room that a module lies in; empty for the package itself."""
    return name.split(".")[1] if "." in name else ""


def resolve(node: ast.ImportFrom, path: Path) -> str:
    """Dotted name of the module that a `from … import` names."""
    if not node.level:
        return node.module or ""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Dotted names of all modules that a file imports, inside functions too unless `top_only`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve(node, path)
            parts = {f"{module}.{alias.name}" for alias in node.names} & NAMES
            found |= parts or {module}
    return found


def own_imports(path: Path) -> set[str]:
    """The part of `imports` that lies in the package, as names of existing modules."""
    return {name for name in imports(path) if name.split(".")[0] == "dfgs" and name != "dfgs"}


def is_for_names_only(path: Path, imported: str) -> bool:
    """Configuration and grid ask the registries for names; a package's `__init__` imports no component."""
    return name_of(path) in {"dfgs.config.checks", "dfgs.grid"} and imported in REGISTRIES_OF_NAMES


def test_every_room_has_its_layer() -> None:
    rooms = {room_of(name) for name in NAMES} - {""}
    assert rooms == set(LEVEL)


def test_imports_inside_the_package_lead_to_modules_that_exist() -> None:
    assert {name for path in MODULES for name in own_imports(path)} <= NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_nothing_from_a_layer_above_its_own(path: Path) -> None:
    if room_of(name_of(path)) == "":
        assert not own_imports(path)
        return
    level = LEVEL[room_of(name_of(path))]
    upwards = {name for name in own_imports(path) if LEVEL[room_of(name)] > level and not is_for_names_only(path, name)}
    assert not upwards


def test_no_two_rooms_import_each_other() -> None:
    graph: dict[str, set[str]] = {room: set() for room in LEVEL}
    for path in MODULES:
        room = room_of(name_of(path))
        if room:
            others = {room_of(name) for name in own_imports(path) if not is_for_names_only(path, name)}
            graph[room] |= others - {room}
    list(TopologicalSorter(graph).static_order())


def test_a_registry_package_imports_no_component() -> None:
    for name in REGISTRIES_OF_NAMES:
        path = PACKAGE.joinpath(*name.split(".")[1:], "__init__.py")
        assert own_imports(path) <= {"dfgs.registry", "dfgs.errors", "dfgs.packs.paths", f"{name}.base"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torch_is_imported_only_in_the_rooms_that_train_and_embed(path: Path) -> None:
    heavy = {name.split(".")[0] for name in imports(path)} & HEAVY
    room = room_of(name_of(path))
    if room == "cli":  # imports inside its commands
        heavy = {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY
    assert not heavy or room in WITH_TORCH


def test_open_clip_and_torchvision_are_imported_in_one_place() -> None:
    users = {
        name_of(path)
        for path in MODULES
        if {name.split(".")[0] for name in imports(path)} & {"open_clip", "torchvision"}
    }
    assert users == {"dfgs.vision"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_lowest_layer_needs_the_standard_library_only(path: Path) -> None:
    if room_of(name_of(path)) in STANDARD_LIBRARY_ONLY:
        foreign = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert foreign <= {"dfgs"}


def test_the_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    modules = sorted((PACKAGE / "cli").glob("*.py"))
    assert PACKAGE / "cli" / "stages.py" in modules
    own = {name for path in modules for name in imports(path, top_only=True) if name.split(".")[0] == "dfgs"}
    assert {name for name in own if room_of(name) != "cli"} == {"dfgs.errors"}


def test_the_light_rooms_load_without_torch() -> None:
    light = sorted(name for name in NAMES if room_of(name) not in WITH_TORCH | {"__main__"})
    assert {"dfgs.scoring", "dfgs.report", "dfgs.config", "dfgs.samplers.dfgs", "dfgs.metrics.ranking"} <= set(light)
    code = (
        f"import importlib, sys\nfor name in {light!r}:\n    importlib.import_module(name)\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
