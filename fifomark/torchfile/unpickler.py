"""The inert unpickler: the C machine that torch uses, in which every global is a stand-in. Nothing is imported, nothing runs.

What a pickle would have done is recorded: each global and how it is used, each call with its arguments.
"""

from __future__ import annotations

import io
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from _pickle import Unpickler, UnpicklingError
from typing import Any

from fifomark.torchfile.source import Broken

MAX_GLOBALS = 10_000
MAX_CALLS = 1_000
MAX_CALLS_OF_ONE = 20
_DEPTH, _ITEMS, _CHARACTERS = 6, 8, 2_000


class Trace:
    """What the pickles of one file would have done."""

    __slots__ = ("built", "calls", "classes", "quiet", "refs", "uses", "where")

    def __init__(self, quiet: frozenset[str]) -> None:
        """`quiet` names the globals whose calls we interpret ourselves, and need not list."""
        self.quiet = quiet
        self.where = ""
        self.uses: dict[str, dict[str, str]] = {}  # global → use → the pickle where it was seen first
        self.calls: dict[str, list[tuple[str, str]]] = {}  # global → (text, pickle)
        self.built: list[Inert] = []
        self.refs: list[StorageRef] = []
        self.classes: dict[str, Stand] = {}

    def use(self, name: str, how: str) -> None:
        self.uses.setdefault(name, {}).setdefault(how, self.where)

    def called(self, name: str, node: Inert) -> None:
        if name in self.quiet:
            return
        listed = self.calls.setdefault(name, [])
        if len(listed) < MAX_CALLS_OF_ONE and len(self.calls) <= MAX_CALLS:
            listed.append((render(node), self.where))


class Stand(type):
    """The stand-in of a global: a class, since the pickle machine will only build classes. Calling it is recorded, never done."""

    full_name: str
    trace: Trace

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        node: Inert = object.__new__(cls)  # type: ignore[arg-type]
        node._fill("call", cls, args, kwargs)
        cls.trace.use(cls.full_name, "call")
        cls.trace.called(cls.full_name, node)
        return node


class Inert(metaclass=Stand):
    """What a call or a construction would have given: who was called with what, and what was put into it afterwards."""

    __slots__ = ("args", "callee", "how", "items", "kwargs", "states", "values")
    full_name = ""
    trace: Trace

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        node = object.__new__(cls)
        node._fill("new", cls, args, kwargs)
        cls.trace.use(cls.full_name, "new")
        cls.trace.built.append(node)
        if args or kwargs:
            cls.trace.called(cls.full_name, node)
        return node

    def _fill(self, how: str, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.how, self.callee, self.args, self.kwargs = how, callee, args, kwargs
        self.states: list[Any] = []
        self.items: list[tuple[Any, Any]] = []
        self.values: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Calling what a call gave: `getattr(os, "system")("…")`."""
        cls = type(self)
        node = object.__new__(cls)
        node._fill("chain", self, args, kwargs)
        cls.trace.use(cls.full_name, "call")
        cls.trace.called(cls.full_name, node)
        return node

    def __setstate__(self, state: Any) -> None:
        self.states.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        self.values.append(value)

    def extend(self, values: Any) -> None:
        self.values.extend(values)

    def add(self, value: Any) -> None:
        self.values.append(value)


class StorageRef:
    """A persistent id that names a storage. `kind` is the full name of its type, `view` the legacy format's view of another storage."""

    __slots__ = ("key", "kind", "numel", "view")

    def __init__(self, key: str, kind: str, numel: Any, view: Any) -> None:
        self.key, self.kind, self.numel, self.view = key, kind, numel, view


class _Machine(Unpickler):
    trace: Trace

    def find_class(self, module: str, name: str) -> Any:
        # Python 2's names, as pickle itself translates them.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f"{module}.{name}"
        trace = self.trace
        stand = trace.classes.get(full_name)
        if stand is None:
            if len(trace.classes) >= MAX_GLOBALS:
                raise Broken("FM208", trace.where, f"more than {MAX_GLOBALS} different globals")
            stand = Stand("Inert", (Inert,), {"__slots__": (), "full_name": full_name, "trace": trace})
            trace.classes[full_name] = stand
        trace.use(full_name, "reference")
        return stand

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 2 and isinstance(pid[1], Stand):
            if pid[0] == "module":
                return pid[1]  # the legacy format: a class, with its source beside it
            if pid[0] == "storage" and 5 <= len(pid) <= 6 and isinstance(pid[2], (str, int)):
                self.trace.use(pid[1].full_name, "storage")
                ref = StorageRef(str(pid[2]), pid[1].full_name, pid[4], pid[5] if len(pid) == 6 else None)
                self.trace.refs.append(ref)
                return ref
        raise Broken("FM207", self.trace.where, "a persistent id that torch does not write", render(pid))


def load(stream: io.BufferedReader[Any], trace: Trace, where: str) -> Any:
    """Read one pickle from `stream`, which is left just behind its STOP. Broken where it cannot be read to its end."""
    trace.where = where
    machine = _Machine(stream, encoding="utf-8", errors="backslashreplace")
    machine.trace = trace
    try:
        return machine.load()
    except Broken:
        raise
    except (MemoryError, RecursionError) as e:
        raise Broken("FM208", where, f"reading it takes too much {'memory' if isinstance(e, MemoryError) else 'depth'}") from None
    except (EOFError, UnpicklingError) as e:
        code = "FM107" if isinstance(e, EOFError) or "truncated" in str(e) else "FM207"
        raise Broken(code, where, "the pickle is cut off" if code == "FM107" else "the pickle is malformed", str(e)[:300]) from None
    except Exception as e:  # the machine raises whatever its operands provoke
        raise Broken("FM207", where, "the pickle is malformed", f"{type(e).__name__}: {str(e)[:300]}") from None


def render(value: Any) -> str:
    """`value` in the words of Python, calls resolved; bounded in depth, items and characters."""
    return _render(value, _DEPTH)[:_CHARACTERS]


def _render(value: Any, depth: int) -> str:
    if isinstance(value, Stand):
        return value.full_name
    if isinstance(value, (str, bytes)):
        return repr(value[:400]) + ("…" if len(value) > 400 else "")
    if isinstance(value, int):
        return str(value) if value.bit_length() < 200 else f"<int of {value.bit_length()} bits>"
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if depth == 0:
        return "…"
    if isinstance(value, Inert):
        callee = value.callee.full_name if isinstance(value.callee, Stand) else _render(value.callee, depth - 1)
        named = [f"{k}={_render(v, depth - 1)}" for k, v in list(value.kwargs.items())[:_ITEMS]]
        return f"{callee}({', '.join([*_renders(value.args, depth), *named])})"
    if isinstance(value, (list, tuple, set, frozenset)):
        brackets = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        return brackets[0] + ", ".join(_renders(value, depth)) + brackets[1]
    if isinstance(value, dict):
        pairs = zip(_renders(value.keys(), depth), _renders(value.values(), depth), strict=True)
        return "{" + ", ".join(f"{k}: {v}" for k, v in pairs) + "}"
    return f"<{type(value).__name__}>"


def _renders(values: Any, depth: int) -> list[str]:
    shown = [_render(value, depth - 1) for value, _ in zip(values, range(_ITEMS), strict=False)]
    return [*shown, "…"] if len(values) > _ITEMS else shown
