"""Find a component by its name: file name = registered name = config name, and nothing is imported to list names."""

import ast
import hashlib
import importlib
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError, did_you_mean


class Registry:
    """The components of one folder: every module that does not start with `_` and is not `base`.

    A module holds exactly one public class that names itself after the file: `pk_camera.py` is `pk-camera`.

    Example: `Registry("sampler", "dfgs.samplers").load("pk")` imports one module and returns its class.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self.folder = Path(__file__).parent.joinpath(*package.split(".")[1:])

    def names(self) -> list[str]:
        """List the registered names, sorted, without importing any component."""
        return sorted(self._files())

    def load(self, name: str) -> type[Any]:
        """Import the module called `name` and return its class.

        Raises `DfgsError` for an unknown name (with the nearest known one) and for a module that does not hold
        exactly one public class.
        """
        module = importlib.import_module(f"{self.package}.{self._file(name).stem}")
        classes = [
            value
            for key, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and not key.startswith("_")
        ]
        if len(classes) != 1:
            found = ", ".join(c.__name__ for c in classes) or "none"
            raise DfgsError(f"{self.kind} {name!r}: {module.__file__} must define one public class, found {found}")
        return classes[0]

    def source_digest(self, name: str) -> str:
        """Digest the component's file and every file of the same folder that it imports, directly or not.

        Used as a rerun key: editing one component reruns its own jobs only. Comments and layout count as well.
        """
        digest = hashlib.sha256()
        for path in sorted(self._closure(self._file(name))):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def check(self, name: str, where: str) -> None:
        """Raise `DfgsError` naming `where` if no component is called `name`."""
        if name not in self._files():
            raise DfgsError(f"{where}: no {self.kind} is called {name!r}{did_you_mean(name, self._files())}")

    def _file(self, name: str) -> Path:
        self.check(name, self.kind)
        return self._files()[name]

    def _files(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.py")):
            if path.stem.startswith("_") or path.stem == "base":
                continue
            name = path.stem.replace("_", "-")
            if name in files:
                raise DfgsError(f"{self.kind} {name!r} is defined twice: {files[name].name} and {path.name}")
            files[name] = path
        return files

    def _closure(self, path: Path) -> set[Path]:
        """Follow imports that stay inside the component folder (read, not executed)."""
        seen: set[Path] = set()
        todo = [path]
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            for module in _imported(current, self.package):
                local = self.folder / f"{module}.py"
                if local.exists():
                    todo.append(local)
        return seen


def _imported(path: Path, package: str) -> list[str]:
    """Names of the modules of `package` that the file at `path` imports (absolute or relative)."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 1:
                module = f"{package}.{module}".rstrip(".")
            if module == package:
                found += [alias.name for alias in node.names]
            elif module.startswith(package + "."):
                found.append(module[len(package) + 1 :].split(".")[0])
        elif isinstance(node, ast.Import):
            prefix = package + "."
            found += [a.name[len(prefix) :].split(".")[0] for a in node.names if a.name.startswith(prefix)]
    return found
