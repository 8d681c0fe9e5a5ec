"""Stand-ins for what a pickle names, calls and builds: nothing is imported, nothing runs, and what would have been done is recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Any

from fifomark.torchfile.source import Broken

MAX_GLOBALS = 10_000
MAX_CALLS = 1_000
MAX_CALLS_OF_ONE = 20
MAX_HANDED = 4_000_000  # items handed to calls that are looked at: one list may be given to any number of them
MAX_ATTRIBUTE = 1_000  # characters of a name put together by getattr
_MAPPINGS = frozenset({"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict"})
_FETCHES = "builtins.getattr"
_CALLS_ITS_ARGUMENT = "torch._tensor._rebuild_from_type_v2"
_REBUILDS = ("torch._utils._rebuild_", _CALLS_ITS_ARGUMENT)
_DEPTH, _ITEMS, _NODES, _CHARACTERS = 6, 8, 200, 2_000


class Trace:
    """What the pickles of one file would have done."""

    __slots__ = ("built", "calls", "classes", "fits", "handed", "quiet", "rebuilt", "refs", "rendered", "uses", "where")

    def __init__(self, quiet: frozenset[str], fits: Mapping[str, Callable[[Inert], bool]]) -> None:
        """`quiet` names the globals whose calls we interpret ourselves, and need not list; `fits` says of some others whether a call of
        them is one that an honest file makes."""
        self.quiet, self.fits = quiet, fits
        if len(_made) > MAX_GLOBALS:
            _made.clear()
        self.where = ""
        self.uses: dict[str, dict[str, str]] = {}  # global → use → the pickle where it was seen first
        self.calls: dict[str, list[tuple[str, str]]] = {}  # global → (text, pickle)
        self.rendered = 0  # calls listed
        self.handed = 0  # items of the collections given to calls that were looked at
        self.built: list[Inert] = []
        self.rebuilt: list[Inert] = []  # tensors of any kind, wherever they are put, or not
        self.refs: list[StorageRef] = []
        self.classes: dict[str, Stand] = {}

    def use(self, name: str, how: str) -> None:
        self.uses.setdefault(name, {}).setdefault(how, self.where)

    def stand(self, full_name: str, *, plain: bool) -> Stand:
        """The one stand-in of this global, named once more. `plain`: its module is imported and it is a name in it, no attribute of one."""
        stand = self.classes.get(full_name)
        if stand is None:
            if len(self.classes) >= MAX_GLOBALS:
                raise Broken("FM208", self.where, f"more than {MAX_GLOBALS} different globals")
            stand = self.classes[full_name] = _stand_in(full_name, self)
        stand.plain = stand.plain and plain
        self.use(full_name, "reference")
        return stand

    def called(self, name: str, text: Callable[[], str]) -> None:
        """List a call while there is room: the first of each global as long as any can be listed, repeats as long as few are."""
        before = len(self.calls.get(name, ()))
        if self.rendered < (MAX_CALLS // 2 if before else MAX_CALLS) and before < MAX_CALLS_OF_ONE:
            self.calls.setdefault(name, []).append((text(), self.where))
            self.rendered += 1

    def look_at(self, node: Inert) -> None:
        """Say where a call, or what is put into its result, is none that an honest file makes; the first of each global is listed first."""
        fits = self.fits.get(type(node).full_name)
        if fits is None:
            return
        for arg in node.args:
            if isinstance(arg, (list, tuple, dict, set)):
                self.handed += len(arg)
        if self.handed > MAX_HANDED:
            raise Broken("FM208", self.where, f"more than {MAX_HANDED} items in what is given to calls")
        if not fits(node):
            self.misused(node)

    def misused(self, node: Inert) -> None:
        name = type(node).full_name
        if "misuse" in self.uses[name]:
            return
        self.use(name, "misuse")
        state = f" given {render(node.states[-1])}" if node.states else ""
        self.calls.setdefault(name, []).insert(0, (f"{render(node)}{state}"[:_CHARACTERS], self.where))


_made: dict[str, Stand] = {}


def _stand_in(full_name: str, trace: Trace) -> Stand:
    """Classes are costly to make and to throw away: a process keeps those it has made, each for one trace at a time."""
    stand = _made.get(full_name)
    if stand is None:
        stand = _made[full_name] = Stand("Inert", (Inert,), {"__slots__": (), "full_name": full_name})
    stand.trace, stand.plain = trace, True
    return stand


def _put_into(method: str) -> Any:
    """What a pickle does to a global itself (`os.environ["PATH"] = …`, `sys.path.append(…)`, another method for a class) is a call too.

    A property of the metaclass: it must be found before the method of that name which the stand-in gives its instances.
    """
    return property(lambda stand: lambda *args: stand.put(method, args))


class Stand(type):
    """The stand-in of a global: a class, since the pickle machine will only build classes. Calling it is recorded, never done."""

    full_name: str
    trace: Trace
    plain: bool

    # INST and OBJ call what has this, also without arguments; what has it not they would build as NEWOBJ does, functions excepted.
    __getinitargs__ = None

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.full_name == _FETCHES and not kwargs and (fetched := cls._attribute(*args)) is not None:
            return fetched
        if cls.full_name == _CALLS_ITS_ARGUMENT and args:
            cls._passed_on(args[0], args[2] if len(args) > 2 else ())
        node: Inert = object.__new__(cls)  # type: ignore[arg-type]
        node._fill("call", cls, args, kwargs)
        cls.trace.use(cls.full_name, "call")
        if cls.full_name not in cls.trace.quiet:
            cls.trace.called(cls.full_name, lambda: render(node))
        if cls.full_name.startswith(_REBUILDS):
            cls.trace.rebuilt.append(node)
        cls.trace.look_at(node)
        return node

    def _attribute(cls, *args: Any) -> Stand | None:
        """`getattr(module.Thing, "name")` is the global `module.Thing.name`, and is judged by that; None where it is no such thing.

        torch's own functions are pickled so: `torch.tanh` is an attribute of a class.
        """
        if len(args) != 2 or not isinstance(args[0], Stand) or type(args[1]) is not str or not args[1].isidentifier():
            return None
        full_name = f"{args[0].full_name}.{args[1]}"
        if len(full_name) > MAX_ATTRIBUTE:
            return None
        cls.trace.use(cls.full_name, "attribute")
        return cls.trace.stand(full_name, plain=False)

    def _passed_on(cls, function: Any, args: Any) -> None:
        """A rebuilder calls the function that it is given, and keeps what that makes for itself."""
        if isinstance(function, (Stand, Inert)):
            before = len(cls.trace.rebuilt)
            function(*args if isinstance(args, (tuple, list)) else (args,))
            del cls.trace.rebuilt[before:]

    def put(cls, method: str, args: tuple[Any, ...]) -> None:
        cls.trace.use(cls.full_name, "patch")
        cls.trace.called(cls.full_name, lambda: f"{_printable(cls.full_name)}.{method}({', '.join(map(render, args))})"[:_CHARACTERS])

    def __setitem__(cls, key: Any, value: Any) -> None:
        cls.put("__setitem__", (key, value))

    __setstate__ = _put_into("__setstate__")
    append = _put_into("append")
    extend = _put_into("extend")
    add = _put_into("add")


class Inert:
    """What a call or a construction would have given: who was called with what, and what was put into it afterwards.

    The stand-ins are its subclasses. It is none itself: whether something is one of theirs is asked all the time, and of a class of a plain
    type that is far quicker told.
    """

    __slots__ = ("args", "callee", "how", "items", "kwargs", "states", "values")
    full_name = ""
    trace: Trace
    plain = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        node = object.__new__(cls)
        node._fill("new", cls, args, kwargs)
        cls.trace.use(cls.full_name, "new")
        cls.trace.built.append(node)
        if (args or kwargs) and cls.full_name not in cls.trace.quiet:
            cls.trace.called(cls.full_name, lambda: render(node))
        cls.trace.look_at(node)
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
        cls.trace.called(cls.full_name, lambda: render(node))
        if cls.full_name in cls.trace.fits:
            cls.trace.misused(node)  # nobody calls data
        return node

    def __setstate__(self, state: Any) -> None:
        self.states.append(state)
        if len(self.states) <= 2:  # one state is honest, two are enough to see
            type(self).trace.look_at(self)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))
        if not hashes_soon(key):
            type(self).trace.misused(self)
        elif len(self.items) == 1:
            type(self).trace.look_at(self)

    def append(self, value: Any) -> None:
        self.values.append(value)
        if len(self.values) == 1:
            type(self).trace.look_at(self)

    def extend(self, values: Any) -> None:
        first = not self.values
        self.values.extend(values)
        if first:
            type(self).trace.look_at(self)

    add = append


def is_mapping(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, Inert) and type(value).full_name in _MAPPINGS)


def pairs_given(value: Any) -> int:
    """How many pairs `pairs_of` goes through, however few are left of them; one list may be given to any number of dicts."""
    if not is_mapping(value):
        return 0
    if isinstance(value, dict):
        return len(value)
    return len(value.items) + sum(len(arg) for arg in value.args if isinstance(arg, (dict, list)))


def pairs_of(value: Any) -> list[tuple[Any, Any]] | None:
    """The items of a dict or of what stands for one, the last of each name; None for anything else."""
    if not is_mapping(value):
        return None
    if isinstance(value, dict):
        return list(value.items())
    if not value.items and not any(value.args):  # as the hooks of nearly every tensor are
        return []
    given = [pair for arg in value.args for pair in (arg.items() if isinstance(arg, dict) else arg if isinstance(arg, list) else ())]
    pairs = [(pair[0], pair[1]) for pair in given if isinstance(pair, (tuple, list)) and len(pair) == 2] + value.items
    # Names and numbers are hashed; a key of any other kind may hash for hours, or not at all, and stays as it is.
    last: dict[Any, tuple[Any, Any]] = {}
    for i, (key, item) in enumerate(pairs):
        known = key if _hashes_at_once(key) else (i,)
        last[known] = (last[known][0] if known in last else key, item)
    return list(last.values())


def hashes_soon(key: Any, budget: int = 100) -> bool:
    """Whether whoever loads this hashes it at once: it is a plain value, or a tuple that comes to a few of them."""
    if type(key) is not tuple:
        return True
    left, todo = budget, [key]
    while todo:
        left -= 1
        if left < 0:
            return False
        value = todo.pop()
        if type(value) is tuple:
            todo.extend(value[: budget + 1])
    return True


def _hashes_at_once(key: Any) -> bool:
    """Texts, and numbers of which no more than a few share a hash."""
    return type(key) is str or type(key) is float or (isinstance(key, int) and key.bit_length() < 64)


class StorageRef:
    """A persistent id that names a storage. `kind` is the full name of its type, `view` the legacy format's view of another storage."""

    __slots__ = ("key", "kind", "numel", "tampered", "view")

    def __init__(self, key: str, kind: str, numel: Any, view: Any) -> None:
        self.key, self.kind, self.numel, self.view = key, kind, numel, view
        self.tampered = False

    def __setstate__(self, state: Any) -> None:
        """Without this, BUILD would set our own attributes."""
        self.tampered = True


def render(value: Any) -> str:
    """`value` in the words of Python, calls resolved; bounded in depth, items, nodes and characters."""
    return _Renderer().text(value, _DEPTH)[:_CHARACTERS]


class _Renderer:
    """One rendering. `_left` counts nodes down: lists that hold each other twice double at every level."""

    def __init__(self) -> None:
        self._left = _NODES

    def text(self, value: Any, depth: int) -> str:
        self._left -= 1
        return _plain(value) or ("…" if depth == 0 or self._left <= 0 else self._nested(value, depth - 1))

    def _nested(self, value: Any, depth: int) -> str:
        if isinstance(value, Inert):
            named = [f"{_printable(k)}={self.text(v, depth)}" for k, v in islice(value.kwargs.items(), _ITEMS)]
            return f"{self.text(value.callee, depth)}({', '.join([*self._texts(value.args, depth), *named])})"
        if isinstance(value, dict):
            pairs = [f"{self.text(k, depth)}: {self.text(v, depth)}" for k, v in islice(value.items(), _ITEMS)]
            return "{" + ", ".join([*pairs, "…"] if len(value) > _ITEMS else pairs) + "}"
        if isinstance(value, (set, frozenset)):  # its order is another in every process
            return "{" + ", ".join(sorted(self._texts(value, depth))) + "}" if len(value) <= _ITEMS else f"<set of {len(value)}>"
        if isinstance(value, (list, tuple)):
            left, right = ("[", "]") if isinstance(value, list) else ("(", ")")
            only = "," if isinstance(value, tuple) and len(value) == 1 else ""
            return left + ", ".join(self._texts(value, depth)) + only + right
        return f"<{type(value).__name__}>"

    def _texts(self, values: Collection[Any], depth: int) -> list[str]:
        shown = [self.text(value, depth) for value in islice(values, _ITEMS)]
        return [*shown, "…"] if len(values) > _ITEMS else shown


def _plain(value: Any) -> str | None:
    """The text of what holds nothing else; None for what does."""
    if isinstance(value, Stand):
        return _printable(value.full_name)
    if isinstance(value, (str, bytes)):
        return repr(value[:400]) + ("…" if len(value) > 400 else "")
    if isinstance(value, int):
        return str(value) if value.bit_length() < 200 else f"<int of {value.bit_length()} bits>"
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    return None


def _printable(name: str) -> str:
    """A name as it is, or as a Python string would show it where it holds what a terminal obeys."""
    return name[:400] if name[:400].isprintable() else repr(name[:400])[1:-1]
