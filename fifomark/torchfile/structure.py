"""The shape of what was saved: which dicts, modules and scripts hold which tensors under which names.

Walks are iterative and visit each object once: lists that contain themselves, or each other twice over, end like any other.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from fifomark.torchfile.source import Broken
from fifomark.torchfile.stand_ins import Inert, Stand, is_mapping, pairs_given, pairs_of
from fifomark.torchfile.tensors import Tensors

MAX_OBJECTS = 1_000_000
MAX_MODULES = 20_000  # in one tree; a module that is shared counts wherever it is named
MAX_NAME = 4_000
MAX_TEXT = 32 << 20  # characters of all names and paths: shared modules and deep dicts repeat them
MAX_PATH = 60
MAX_OTHERS = 200
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
MAX_ITEMS = 4_000_000  # of all dicts and lists: one that is shared counts wherever it is looked into


def state_of(value: Any) -> dict[Any, Any] | None:
    """The attributes that a constructed object was given."""
    if isinstance(value, Inert) and value.how == "new" and not value.args and len(value.states) == 1 and isinstance(value.states[0], dict):
        return value.states[0]
    return None


def is_module(value: Any) -> bool:
    """An nn.Module's pickle: a class built without arguments, whose state has its parameters and submodules, nothing put in besides.

    The class must be a name in its module: an attribute of something else there may be anything (`my.module.subprocess.Popen`).
    """
    state = state_of(value)
    if state is None or not type(value).plain or value.items or value.values:
        return False
    return is_mapping(state.get("_parameters")) and is_mapping(state.get("_modules"))


def is_script(value: Any) -> bool:
    return isinstance(value, Inert) and type(value).full_name.startswith("__torch__.") and state_of(value) is not None


class Structure:
    """Collects groups and layers from the roots that it is given."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._seen: set[int] = set()
        self._count = self._modules = self._entries = self._items = self._text = 0
        self.groups: list[dict[str, Any]] = []
        self.layers: list[dict[str, Any]] = []

    def walk(self, root: Any) -> None:
        todo: list[tuple[Any, tuple[str, ...]]] = [(root, ())]
        while todo:
            value, path = todo.pop()
            if self._entered(value) and len(path) <= MAX_PATH:
                todo.extend(reversed(self._look(value, path)))

    def _entered(self, value: Any) -> bool:
        """Whether `value` is looked into now for the first time."""
        if id(value) in self._seen:
            return False
        self._seen.add(id(value))
        self._count += 1
        if self._count > MAX_OBJECTS:
            raise Broken("FM208", "the pickle", f"more than {MAX_OBJECTS} objects")
        return True

    def _look(self, value: Any, path: tuple[str, ...]) -> list[tuple[Any, tuple[str, ...]]]:
        if is_module(value):
            self._module(value, path)
            return []
        if is_script(value):
            self._script(value, path)
            return []
        self._visit(pairs_given(value))
        pairs = pairs_of(value)
        if pairs is not None:
            return self._container("mapping", pairs, path)
        if isinstance(value, (list, tuple)):
            self._visit(len(value))
            return self._container("sequence", list(enumerate(value)), path)
        if path == () and self._tensors.index(value, "the root") is not None:
            self._group(path, "sequence", [("0", self._tensors.index(value, "the root"))], [])
        return []

    def _container(self, kind: str, pairs: list[tuple[Any, Any]], path: tuple[str, ...]) -> list[tuple[Any, tuple[str, ...]]]:
        entries: list[tuple[str, int | None]] = []
        others: list[tuple[str, str]] = []
        inside: list[tuple[Any, tuple[str, ...]]] = []
        for key, value in pairs:
            named = type(key) is str or (type(key) is int and key.bit_length() < 64)
            name = str(key) if named else f"<{what(key)}>"
            index = self._tensors.index(value, name)
            if index is not None and named:
                entries.append((name, index))
                continue
            if len(others) < MAX_OTHERS:
                others.append((name, what(value)))
            if isinstance(value, (dict, list, tuple, Inert)):
                inside.append((value, (*path, name)))
        if entries or path == ():
            self._group(path, kind, entries, others)
        return inside

    def _module(self, root: Any, path: tuple[str, ...]) -> None:
        """Names as state_dict() gives them: a module's parameters, its persistent buffers, then its submodules in their order."""
        entries: list[tuple[str, int | None]] = []
        others: list[tuple[str, str]] = []
        todo: list[tuple[str, Any, frozenset[int]]] = [("", root, frozenset())]
        while todo:
            prefix, module, above = todo.pop()
            state = state_of(module)
            if state is None or id(module) in above:
                continue
            self._descend(module, prefix)
            layer = {"path": prefix[:-1], "cls": type(module).full_name[:400], "attributes": _attributes(state)}
            self.layers.append(layer | ({"altered": True} if _altered(state) else {}))
            skipped = _members(state.get("_non_persistent_buffers_set"))
            for table in ("_parameters", "_buffers"):
                for name, value in self._named(state.get(table)):
                    index = self._tensors.index(value, f"{prefix}{name}")
                    if index is not None and (table == "_parameters" or name not in skipped):
                        entries.append((f"{prefix}{name}", index))
                    elif index is None and value is not None and len(others) < MAX_OTHERS:
                        others.append((f"{prefix}{name}", what(value)))
            if len(entries) > self._tensors.limit:
                raise Broken("FM110", "the pickle", f"more than {self._tensors.limit} names of tensors")
            if len(above) < MAX_PATH:
                children = reversed(self._named(state.get("_modules")))
                todo.extend((f"{prefix}{name}.", child, above | {id(module)}) for name, child in children)
        self._group(path, "module", entries, others)

    def _script(self, root: Any, path: tuple[str, ...]) -> None:
        """A TorchScript object: its tensors and the objects in it, by their attributes' names."""
        entries: list[tuple[str, int | None]] = []
        others: list[tuple[str, str]] = []
        todo: list[tuple[str, Any, frozenset[int]]] = [("", root, frozenset())]
        while todo:
            prefix, value, above = todo.pop()
            if id(value) in above or len(above) > MAX_PATH:
                continue
            self._descend(value, prefix)
            inside = []
            for name, attribute in self._named(state_of(value)):
                index = self._tensors.index(attribute, f"{prefix}{name}")
                if index is not None:
                    entries.append((f"{prefix}{name}", index))
                elif is_script(attribute):
                    inside.append((f"{prefix}{name}.", attribute, above | {id(value)}))
                elif not isinstance(attribute, (bool, type(None))) and len(others) < MAX_OTHERS:
                    others.append((f"{prefix}{name}", what(attribute)))
            todo.extend(reversed(inside))
        self._group(path, "script", entries, others)

    def _group(self, path: tuple[str, ...], kind: str, entries: list[tuple[str, int | None]], others: list[tuple[str, str]]) -> None:
        """Keep a group; Broken where a name is too long, or is that of two tensors (a program that loads it could take either)."""
        tensors: dict[str, int | None] = {}
        for name, index in entries:
            self._spend(len(name))
            if len(name) > MAX_NAME or name in tensors:
                fault = "is too long" if len(name) > MAX_NAME else "is the name of two tensors"
                raise Broken("FM304", name[:100], f"a name of {len(name)} characters {fault}")
            tensors[name] = index
        self._entries += len(tensors)
        if self._entries > self._tensors.limit:
            raise Broken("FM110", "the pickle", f"more than {self._tensors.limit} names of tensors")
        self._spend(sum(map(len, path)))
        self.groups.append(
            {
                "path": [step[:400] for step in path],
                "kind": kind,
                "entries": list(tensors.items()),
                "others": [(name[:400], of) for name, of in others],
            }
        )

    def _descend(self, module: Any, prefix: str) -> None:
        """Count one more module of a tree. One that is shared counts under each of its names: sixty that share double sixty times."""
        self._modules += 1
        if self._modules > MAX_MODULES or len(prefix) > MAX_NAME:
            raise Broken("FM208", "the pickle", f"more than {MAX_MODULES} modules, or names without end")
        self._seen.add(id(module))
        self._spend(len(prefix))

    def _spend(self, characters: int) -> None:
        self._text += characters
        if self._text > MAX_TEXT:
            raise Broken("FM208", "the pickle", f"names of more than {MAX_TEXT} characters")

    def _visit(self, items: int) -> None:
        self._items += items
        if self._items > MAX_ITEMS:
            raise Broken("FM110", "the pickle", f"more than {MAX_ITEMS} items in dicts and lists")

    def _named(self, table: Any) -> list[tuple[str, Any]]:
        """The items of a module's table. Broken where a name is no text: to write it out could take for ever."""
        self._visit(pairs_given(table))
        pairs = pairs_of(table) or []
        if not all(type(name) is str for name, _ in pairs):
            raise Broken("FM304", "the pickle", "a module has attributes whose names are no text")
        return pairs


def what(value: Any) -> str:
    """What something that is no tensor is, in a word or two."""
    if isinstance(value, Stand):
        return value.full_name[:300]
    if isinstance(value, Inert):
        return type(value).full_name[:300]
    if isinstance(value, (dict, list, tuple, set)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _members(value: Any) -> frozenset[str]:
    if isinstance(value, Inert) and type(value).full_name == "builtins.set" and len(value.args) == 1:
        value = value.args[0]
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, (set, frozenset, list, tuple)) else frozenset()


def _attributes(state: dict[Any, Any]) -> dict[str, Any]:
    """The plain attributes of a module: what its constructor was told, as far as it is scalars."""
    kept: dict[str, Any] = {}
    for name, value in islice(state.items(), 100):
        if not isinstance(name, str) or name.startswith("_") or name == "training":
            continue
        if isinstance(value, (tuple, list)) and len(value) <= 8 and all(_is_plain(item) for item in value):
            kept[name[:100]] = list(value)
        elif isinstance(value, Stand):
            kept[name[:100]] = value.full_name[:200]
        elif _is_plain(value):
            kept[name[:100]] = value
    return kept


def _altered(state: dict[Any, Any]) -> bool:
    """Whether a module computes otherwise than its class: it has hooks, or a function where its class has a method."""
    if any(pairs_given(state.get(hooks)) for hooks in _HOOKS):
        return True
    if isinstance(state.get("forward"), (Stand, Inert)):
        return True
    some = islice(state.items(), 200)  # a module that is shared is looked at under each of its names
    return any(isinstance(value, Stand) and isinstance(name, str) and name.startswith("_") for name, value in some)


def _is_plain(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() < 63
    if type(value) is float:
        return value - value == 0.0  # JSON has no NaN and no Inf
    return value is None or type(value) is bool or (type(value) is str and len(value) <= 200)
