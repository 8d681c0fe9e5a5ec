"""Code of the operator's, which is trusted: the Python beside a rubric, found by name and imported as a package of its own, and plugins.

Nothing of it is ever taken from a cache on disk: a file changed twice within a second must not be run as it was before.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from fifomark import plugins
from fifomark.core.errors import ConfigError, FifomarkError
from fifomark.core.nearest import nearest
from fifomark.core.outcome import PluginUsed
from fifomark.core.text import shown
from fifomark.families.family import did_you_mean
from fifomark.marking.rubric_hash import rubric_sha256

_REFERENCE = re.compile(r"(?P<module>[A-Za-z_]\w*):(?P<name>[A-Za-z_]\w*)", re.ASCII)
_PRIVATE = "_fifomark_beside_"
_NO_ARGUMENT = re.compile(r"got an unexpected keyword argument '(?P<name>\w+)'")


@dataclass(frozen=True)
class Own:
    """What `key` in the file `place` names by `reference`: of the Python in the rubric's `folder`, or of a `plugin`.

    Whatever goes wrong in it, sys.exit() too, is its author's: ConfigError with its name and line, or PluginFailed. `arguments` says what
    it is called with.
    """

    reference: str
    function: Callable[..., Any]
    folder: str | os.PathLike[str]
    place: object
    key: str
    plugin: PluginUsed | None = None
    arguments: str = ""

    def __call__(self, *args: Any, **more: Any) -> Any:
        try:
            return self.function(*args, **more)
        except BaseException as e:
            raise self.failed(e) from e

    def failed(self, error: BaseException) -> FifomarkError:
        hint = f"{_meant(error, self.function)}{self.arguments}" if isinstance(error, TypeError) else ""
        if self.plugin is not None:
            return plugins.failed(self.plugin, error, hint)
        return ConfigError(self.place, self.key, f"{self.reference} raised {said(error, self.folder)}", hint)

    def wrong(self, problem: str) -> FifomarkError:
        """It raised nothing, but what it gave is not what was expected: "gives a str, expected …"."""
        if self.plugin is not None:
            return plugins.failed(self.plugin, TypeError(f"it {problem}"))
        return ConfigError(self.place, self.key, f"{self.reference} {problem}")


def _meant(error: TypeError, function: Callable[..., Any]) -> str:
    """Which parameter was meant by an argument that the function does not take: "did you mean 'hidden'? "."""
    match = _NO_ARGUMENT.search(str(error))
    try:
        known = list(inspect.signature(function).parameters) if match else []
    except (TypeError, ValueError):  # a class of C, say: nothing tells its parameters
        return ""
    near = nearest(match["name"], known) if match and match["name"] not in known else None
    return f"did you mean {near!r}? " if near else ""


def load_callable(
    folder: str | os.PathLike[str], reference: str, place: object, key: str, group: str | None = None, arguments: str = ""
) -> Own:
    """What `reference` names: "module:name" of the Python in the rubric's `folder`, or "plugin:NAME" of an entry-point `group`.

    ConfigError, about `key` in the file `place`, where there is no such thing or it is nothing that can be called, and where importing
    it raises: with the name and line. It is imported once for each content of the rubric. PluginFailed where a plugin cannot be imported.
    """
    made: object
    used = None
    if group is not None and reference.startswith(plugins.PREFIX):
        name = reference.removeprefix(plugins.PREFIX)
        plugins.check(group, name, place, key)
        made, used, _ = plugins.load(group, name)
    else:
        module_name, name = _parts(folder, reference, place, key)
        module = _imported(Path(folder).resolve(), module_name, place, key)
        if not hasattr(module, name):
            raise ConfigError(place, key, f"{module_name}.py has no {name!r}", did_you_mean(name, _public(vars(module))))
        made = getattr(module, name)
    own = Own(reference, made, folder, place, key, used, arguments)  # type: ignore[arg-type]  # that is what is asked next
    if not callable(made):
        raise own.wrong(f"is of type {shown(type(made).__name__)}, nothing that can be called")
    return own


def check_callable(folder: str | os.PathLike[str], reference: str, place: object, key: str, group: str | None = None) -> None:
    """What can be said of `reference` without running any of it: ConfigError where its file, or the name in it, is not there."""
    if group is not None and reference.startswith(plugins.PREFIX):
        plugins.check(group, reference.removeprefix(plugins.PREFIX), place, key)
        return
    module_name, name = _parts(folder, reference, place, key)
    try:
        tree = ast.parse(Path(folder, f"{module_name}.py").read_bytes())
    except (SyntaxError, ValueError) as e:
        raise ConfigError(place, key, f"{module_name}.py is no Python: {_syntax(e)}") from e
    names = _bound(tree)
    if name not in names and "*" not in names:
        raise ConfigError(place, key, f"{module_name}.py has no {name!r}", did_you_mean(name, _public(names)))


def _parts(folder: str | os.PathLike[str], reference: str, place: object, key: str) -> tuple[str, str]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(place, key, f"{reference!r} names nothing", 'write "module:name", for a name in module.py beside the rubric')
    if not Path(folder, f"{match['module']}.py").is_file():
        others = sorted(path.stem for path in Path(folder).glob("*.py"))
        hint = did_you_mean(match["module"], others) if others else "there is no Python beside the rubric"
        raise ConfigError(place, key, f"there is no {match['module']}.py beside the rubric", hint)
    return match["module"], match["name"]


def _public(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("_")]


def _bound(tree: ast.Module) -> list[str]:
    """The names that running the module may bind at its top level, also below an if or a try."""
    names: list[str] = []
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        todo += ast.iter_child_nodes(node)
    return names


# Importing


class _Fresh(SourceFileLoader):
    """Compiles the file itself, and leaves no compiled one beside it."""

    def path_stats(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        raise OSError("never from a cache")


class _Beside(MetaPathFinder):
    """Finds the modules of our private packages, each in its rubric's folder."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = name.partition(".")
        folder = self.folders.get(package)
        if folder is None:
            return None
        if not module:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(folder)]
            return spec
        file = folder / f"{module}.py"
        return spec_from_file_location(name, file, loader=_Fresh(name, str(file))) if file.is_file() else None


_FINDER = _Beside()


def _imported(folder: Path, module_name: str, place: object, key: str) -> ModuleType:
    package = _package(folder)
    try:
        return import_module(f"{package}.{module_name}")
    except BaseException as e:  # sys.exit() too
        hint = ""
        if isinstance(e, ModuleNotFoundError) and e.name and Path(folder, f"{e.name}.py").is_file():
            hint = f"a file beside the rubric is imported with a dot: from .{e.name} import …"
        raise ConfigError(place, key, f"importing {module_name}.py raised {said(e, folder)}", hint) from e


def _package(folder: Path) -> str:
    """The private package that stands for the folder as it is now; those that stood for it before are forgotten."""
    here = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    name = f"{_PRIVATE}{here}_{rubric_sha256(folder)[:16]}"
    if name not in _FINDER.folders:
        if _FINDER not in sys.meta_path:
            sys.meta_path.append(_FINDER)
        for old in [known for known in _FINDER.folders if known.startswith(f"{_PRIVATE}{here}_")]:
            del _FINDER.folders[old]
            for module in [known for known in sys.modules if known == old or known.startswith(f"{old}.")]:
                del sys.modules[module]
        _FINDER.folders[name] = folder
    return name


def said(error: BaseException, folder: str | os.PathLike[str]) -> str:
    """What an exception of the operator's Python is, with the last line of theirs that it passed: "NameError: … (models.py, line 3)"."""
    if isinstance(error, SyntaxError):
        return _syntax(error)
    text = shown((str(error).splitlines() or [""])[0], 300)
    inside = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == Path(folder).resolve()]
    line = f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{line}"


def _syntax(error: Exception) -> str:
    if not isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {shown(str(error), 300)}"
    return f"{type(error).__name__}: {shown(error.msg, 300)} ({Path(error.filename or '').name or 'line'}, line {error.lineno})"
