"""Registries: names without imports, one class per file, digests that follow helpers of the same folder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfgs.errors import DfgsError
from dfgs.registry import Registry

ONE_CLASS = "class Tool:\n    pass\n"
LISTS_NAMES = """
import sys
from dfgs import datasets, figures, losses, samplers
rooms = (datasets, figures, losses, samplers)
print(sum(len(room.REGISTRY.names()) for room in rooms))
for room in rooms:
    room.REGISTRY.source_digest(room.REGISTRY.names()[0])
parts = [f"{room.__name__}.{name.replace('-', '_')}" for room in rooms for name in room.REGISTRY.names()]
print(*[part for part in parts if part in sys.modules])
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An empty registry in a package of its own."""
    (tmp_path / "toolbox").mkdir()
    (tmp_path / "toolbox" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("tool", "toolbox")
    registry.folder = tmp_path / "toolbox"
    yield registry
    for name in [name for name in sys.modules if name.split(".")[0] == "toolbox"]:
        del sys.modules[name]


def add(registry: Registry, file: str, text: str = ONE_CLASS) -> None:
    """Write a module into the registry's folder."""
    (registry.folder / file).write_text(text, encoding="utf-8")


def test_names_are_file_names_sorted_and_nothing_is_imported(tools: Registry) -> None:
    for file in ("saw_fine.py", "axe.py", "base.py", "_helper.py"):
        add(tools, file, "raise RuntimeError('imported')\n")
    assert tools.names() == ["axe", "saw-fine"]
    assert "toolbox" not in sys.modules


def test_the_package_lists_its_components_and_digests_them_without_importing_any() -> None:
    done = subprocess.run([sys.executable, "-c", LISTS_NAMES], capture_output=True, text=True, check=True)
    count, imported = done.stdout.split("\n")[:2]
    assert int(count) >= 10
    assert imported == ""


def test_a_component_is_loaded_by_its_name_and_may_import_other_classes(tools: Registry) -> None:
    add(tools, "axe.py")
    add(tools, "saw_fine.py", "from pathlib import Path\nfrom toolbox.axe import Tool\nclass Saw(Tool):\n    pass\n")
    loaded = tools.load("saw-fine")
    assert (loaded.__name__, loaded.__module__) == ("Saw", "toolbox.saw_fine")


def test_a_private_class_beside_the_public_one_is_allowed(tools: Registry) -> None:
    add(tools, "axe.py", ONE_CLASS + "class _Handle:\n    pass\n")
    assert tools.load("axe").__name__ == "Tool"


@pytest.mark.parametrize(("text", "found"), [(ONE_CLASS + "class Second:\n    pass\n", "Tool, Second"), ("", "none")])
def test_a_file_must_hold_exactly_one_public_class(tools: Registry, text: str, found: str) -> None:
    add(tools, "axe.py", text)
    with pytest.raises(DfgsError, match=rf"tool 'axe': .*axe\.py must define one public class, found {found}"):
        tools.load("axe")


def test_an_unknown_name_is_refused_with_the_nearest_known_one(tools: Registry) -> None:
    add(tools, "hammer.py")
    for use in (tools.load, tools.source_digest, lambda name: tools.check(name, "config: here")):
        with pytest.raises(DfgsError, match=r"no tool is called 'hamer' \(did you mean 'hammer'\?\)"):
            use("hamer")
    with pytest.raises(DfgsError, match=r"^config: here: "):
        tools.check("hamer", "config: here")


def test_two_files_of_one_name_are_refused_with_both(tools: Registry) -> None:
    add(tools, "pk_camera.py")
    add(tools, "pk-camera.py")
    with pytest.raises(DfgsError, match=r"'pk-camera' is defined twice: pk-camera\.py and pk_camera\.py"):
        tools.names()


@pytest.mark.parametrize(
    "line",
    [
        "from toolbox._helper import work",
        "from toolbox import _helper",
        "import toolbox._helper",
        "from ._helper import work",
        "from . import _helper",
        "def late():\n    from toolbox._helper import work",
        "from toolbox._between import work",
    ],
)
def test_the_digest_follows_imports_inside_the_folder(tools: Registry, line: str) -> None:
    add(tools, "_between.py", "from toolbox._helper import work\n")
    add(tools, "_helper.py", "work = 1\n")
    add(tools, "axe.py", f"{line}\n{ONE_CLASS}")
    before = tools.source_digest("axe")
    assert tools.source_digest("axe") == before
    add(tools, "_helper.py", "work = 2\n")
    assert tools.source_digest("axe") != before


def test_the_digest_is_blind_to_everything_outside_the_component(tools: Registry) -> None:
    outside = tools.folder.parent / "outside.py"
    outside.write_text("work = 1\n", encoding="utf-8")
    add(tools, "axe.py", f"import outside\nfrom outside import work\n{ONE_CLASS}")
    add(tools, "outside_too.py")
    before = tools.source_digest("axe")
    outside.write_text("work = 2\n", encoding="utf-8")
    add(tools, "outside_too.py", ONE_CLASS + "# edited\n")
    assert tools.source_digest("axe") == before
    add(tools, "axe.py", f"import outside\nfrom outside import work\n{ONE_CLASS}# edited\n")
    assert tools.source_digest("axe") != before


def test_helpers_that_import_each_other_are_digested_once(tools: Registry) -> None:
    add(tools, "_one.py", "import toolbox._two\n")
    add(tools, "_two.py", "import toolbox._one\n")
    add(tools, "axe.py", f"import toolbox._one\n{ONE_CLASS}")
    assert len(tools.source_digest("axe")) == 16


def test_the_digest_does_not_depend_on_where_the_checkout_lies(tools: Registry, tmp_path: Path) -> None:
    add(tools, "axe.py")
    before = tools.source_digest("axe")
    tools.folder = tools.folder.rename(tmp_path / "elsewhere")
    assert tools.source_digest("axe") == before
