"""What honest files give to the globals that plain data is made of. Anything else may take all memory, or corrupt it, in whoever loads it.

A name alone does not make a call harmless: `bytearray(b"ab")` is data, `bytearray(10**13)` is an attack, and a numpy dtype of objects that
its state calls numbers makes pointers of the bytes that follow. So the calls that could do harm are compared with what their own
`__reduce__` writes; nothing here is ever done, only looked at. Standard library only: this runs in the locked-down parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from fifomark.torchfile.stand_ins import Inert, Stand, hashes_soon

Fits = Callable[[Inert], bool]

_MAX_DIGITS = 4_000  # of a number given as text, as Python itself limits int()
_LATIN = ("latin1", "latin-1")
_FRACTION = re.compile(r"-?[0-9]+(/[0-9]+)?\Z")
_NUMBERS = re.compile(r"(?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[mM]8)\Z")
_SIZED = re.compile(r"([USV])([0-9]{1,9})\Z")
_NUMBER_STATE = (None, None, None, -1, -1, 0)
_OBJECT_STATE = (None, None, None, -1, -1, 63)
_ALIGNMENT_AND_FLAGS = {"U": (4, 8), "S": (1, 0), "V": (1, 0)}
_STRUCTURED_FLAGS = (16, 24, 144, 152)  # of fields that hold numbers or text, packed or aligned; never of objects
_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
_MAKES_GENERATORS = "numpy.random._pickle.__bit_generator_ctor"
_NUMPY = ("numpy.core", "numpy._core")
_SCALARS, _ARRAYS, _BUFFERS = (
    tuple(f"{home}.{name}" for home in _NUMPY) for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
)
_MASKED = ("numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray")
_FLAGS = 8 | 16 | 32 | 64 | 256  # of patterns: MULTILINE, DOTALL, UNICODE, VERBOSE, ASCII
_FLAGS_WITHIN = re.compile(r"\(\?[aiLmsux-]")
_LONGEST_PATTERN = 1_000
_OF_TORCH = ("torch.optim.", "torch.nn.modules.")


def _is(value: Any, *names: str) -> bool:
    """Whether `value` stands for the result of calling one of these globals."""
    return isinstance(value, Inert) and value.how == "call" and type(value).full_name in names


def _is_global(value: Any, *names: str) -> bool:
    return isinstance(value, Stand) and value.full_name in names


def _is_bytes(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, str)) or _is(value, "_codecs.encode", "builtins.bytes", "builtins.bytearray")


def _are_ints(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def _unfilled(node: Inert) -> bool:
    return not (node.states or node.items or node.values or node.kwargs)


def _bytes(node: Inert) -> bool:
    """bytes() · bytes(b"…") · bytearray("…", "latin-1")"""
    return _unfilled(node) and (
        not node.args
        or (len(node.args) == 1 and not isinstance(node.args[0], str) and _is_bytes(node.args[0]))
        or (len(node.args) == 2 and isinstance(node.args[0], str) and node.args[1] in _LATIN)
    )


def _encoded(node: Inert) -> bool:
    """encode("…", "latin1"), how protocol 2 writes bytes: any other codec may take minutes, or be imported."""
    return _unfilled(node) and len(node.args) == 2 and isinstance(node.args[0], str) and node.args[1] in _LATIN


def _complex(node: Inert) -> bool:
    return _unfilled(node) and len(node.args) <= 2 and all(type(arg) in (int, float) for arg in node.args)


def _decimal(node: Inert) -> bool:
    return _unfilled(node) and len(node.args) == 1 and isinstance(node.args[0], str) and len(node.args[0]) <= _MAX_DIGITS


def _fraction(node: Inert) -> bool:
    """Fraction(3, 4), or "3/4": as text it may also be "1e9999999999", which is a number of so many digits."""
    if not _unfilled(node) or not node.args:
        return False
    if len(node.args) == 1 and isinstance(text := node.args[0], str):
        return len(text) <= _MAX_DIGITS and _FRACTION.match(text) is not None
    return len(node.args) <= 2 and all(type(arg) is int and arg.bit_length() <= 4 * _MAX_DIGITS for arg in node.args)


def _collection(node: Inert) -> bool:
    """Of what stands in the file one by one: nothing that goes on without end, or is walked through to any length."""
    given = (*node.args, *node.kwargs.values())
    return all(arg is None or type(arg) in (int, str, bytes, list, tuple, dict, set, frozenset) for arg in given)


def _hashed(node: Inert) -> bool:
    """A collection whose items are hashed, at once each."""
    return _collection(node) and all(hashes_soon(item) for arg in node.args if isinstance(arg, (list, tuple)) for item in arg)


def _ordered(node: Inert) -> bool:
    """A dict: of nothing, a dict, or a list of pairs."""
    if not node.args and not node.kwargs:
        return True
    pairs = [pair for arg in node.args if isinstance(arg, (list, tuple)) for pair in arg]
    return _collection(node) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 and hashes_soon(pair[0]) for pair in pairs)


def _defaulting(node: Inert) -> bool:
    return not node.kwargs and len(node.args) <= 2 and all(type(arg) in (dict, list) for arg in node.args[1:])


def _pattern(node: Inert) -> bool:
    """_compile("a+b", 32). Ignoring case, a range of letters is gone through one by one; a long pattern may take its time in other ways."""
    if not _unfilled(node) or len(node.args) != 2 or type(node.args[1]) is not int or node.args[1] & ~_FLAGS:
        return False
    text = node.args[0].args[0] if _is(node.args[0], "_codecs.encode") and _encoded(node.args[0]) else node.args[0]
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return isinstance(text, str) and len(text) <= _LONGEST_PATTERN and not _FLAGS_WITHIN.search(text)


def _partial(node: Inert) -> bool:
    """partial(Adam), then (Adam, (), {"lr": 0.1}, None): a class of torch's, and numbers of which none can be a size."""
    if len(node.args) != 1 or node.kwargs or node.items or node.values or len(node.states) > 1:
        return False
    kept = node.args[0]
    known = isinstance(kept, Stand) and kept.full_name.startswith(_OF_TORCH)
    return known and all(_fits_partial(kept, state) for state in node.states)


def _fits_partial(kept: Stand, state: Any) -> bool:
    if not isinstance(state, tuple) or len(state) != 4 or state[0] is not kept or state[3] is not None or not isinstance(state[1], tuple):
        return False
    named = state[2] if type(state[2]) is dict else {"": state[2]}
    given = [*state[1], *(pair for value in named.values() for pair in (value if type(value) is tuple else (value,)))]
    return all(type(value) in (float, bool, str, type(None)) for value in given)


# numpy


def _dtype(node: Inert) -> bool:
    """dtype("f4", False, True) and the state that numpy gives it."""
    args = node.args
    if node.items or node.values or node.kwargs or not args or not isinstance(args[0], str) or not all(arg in (0, 1) for arg in args[1:]):
        return False
    return _itemsize(args[0]) is not None and len(node.states) <= 1 and all(_fits_dtype(args[0], state) for state in node.states)


def _itemsize(code: str) -> int | None:
    """The bytes of one value of a dtype; None for a code that numpy does not write."""
    if _NUMBERS.match(code) or code == "O8":
        return int(code[1:])
    found = _SIZED.match(code)
    return int(found[2]) * (4 if found[1] == "U" else 1) if found else None


def _fits_dtype(code: str, state: Any) -> bool:
    if not isinstance(state, tuple) or len(state) not in (8, 9) or type(state[0]) is not int or state[1] not in ("<", ">", "|", "="):
        return False
    facts = state[2:8]
    if _NUMBERS.match(code):
        return facts == _NUMBER_STATE
    if code == "O8":
        return facts == _OBJECT_STATE and len(state) == 8
    size = _itemsize(code)
    if size is None or len(state) != 8 or facts[0] is not None or facts[3] != size:
        return False
    if facts[1] is None and facts[2] is None:
        return facts[4:] == _ALIGNMENT_AND_FLAGS[code[0]]
    return code[0] == "V" and facts[5] in _STRUCTURED_FLAGS and _fits_fields(facts[1], facts[2], size)


def _fits_fields(names: Any, fields: Any, size: int) -> bool:
    """Whether each field is a dtype without objects that ends inside the record."""
    if not isinstance(names, tuple) or not isinstance(fields, dict) or set(map(type, names)) != {str} or set(names) != set(fields):
        return False
    return all(isinstance(field, tuple) and len(field) == 2 and _fits_field(*field, size) for field in fields.values())


def _fits_field(dtype: Any, offset: Any, size: int) -> bool:
    if not _is(dtype, "numpy.dtype") or type(offset) is not int or not dtype.args or dtype.args[0] == "O8" or not _dtype(dtype):
        return False
    return 0 <= offset <= size - (_itemsize(dtype.args[0]) or 0)


def _is_whole(value: Any) -> bool:
    """Whether `value` is an honest dtype, also now: what it was given may have been changed since."""
    return _is(value, "numpy.dtype") and _dtype(value)


def _scalar(node: Inert) -> bool:
    return _unfilled(node) and len(node.args) == 2 and _is_whole(node.args[0]) and node.args[0].args[:1] != ("O8",)


def _array(node: Inert) -> bool:
    """_reconstruct(ndarray, (0,), b"b"), then (1, shape, dtype, is_fortran, bytes or the list of its objects). A matrix likewise."""
    if len(node.args) != 3 or node.items or node.values or node.kwargs or len(node.states) > 1:
        return False
    empty = _is_global(node.args[0], "numpy.ndarray", "numpy.matrix") and node.args[1] == (0,) and _is_bytes(node.args[2])
    return empty and all(_fits_array(state) for state in node.states)


def _fits_array(state: Any) -> bool:
    if not isinstance(state, tuple) or len(state) != 5 or not _are_ints(state[1]) or not _is_whole(state[2]):
        return False
    if isinstance(state[4], list):
        return state[2].args[:1] == ("O8",) and len(state[4]) == prod(state[1])
    return state[2].args[:1] != ("O8",) and _is_bytes(state[4])


def _masked(node: Inert) -> bool:
    """_mareconstruct(MaskedArray, ndarray, (0,), "b"), then an array's state, the bytes of its mask, and what stands for masked values."""
    if len(node.args) != 4 or node.items or node.values or node.kwargs or len(node.states) > 1:
        return False
    classes = _is_global(node.args[0], *_MASKED) and _is_global(node.args[1], "numpy.ndarray")
    return classes and node.args[2] == (0,) and _is_bytes(node.args[3]) and all(map(_fits_masked, node.states))


def _fits_masked(state: Any) -> bool:
    if not isinstance(state, tuple) or len(state) != 7 or not _is_bytes(state[5]):
        return False
    filling = state[6]
    fills = filling is None or type(filling) in (int, float, bool, str) or _is(filling, *_SCALARS, *_ARRAYS, *_BUFFERS)
    return fills and not isinstance(state[4], list) and _fits_array(state[:5])


def _from_buffer(node: Inert) -> bool:
    if not _unfilled(node) or len(node.args) != 4 or not _is_bytes(node.args[0]) or not _are_ints(node.args[2]):
        return False
    return _is_whole(node.args[1]) and node.args[1].args[:1] != ("O8",)


def _generator(node: Inert) -> bool:
    """A bit generator, or what makes one from its name: numpy calls it."""
    made = all(_is(arg, _MAKES_GENERATORS) or _is_generator(arg) for arg in node.args[:1])
    return made and not node.kwargs and len(node.args) <= 2 and all(_is_global(arg, _MAKES_GENERATORS) for arg in node.args[1:])


def _bit_generator(node: Inert) -> bool:
    return not node.kwargs and len(node.args) <= 1 and all(map(_is_generator, node.args))


def _is_generator(value: Any) -> bool:
    """The name of one, or its class."""
    if isinstance(value, Stand):
        return value.full_name.startswith("numpy.random._") and value.full_name.rpartition(".")[2] in _GENERATORS
    return isinstance(value, str) and value in _GENERATORS


_HASHED = ("builtins.set", "builtins.frozenset", "collections.Counter")

FITS: Mapping[str, Fits] = {
    "_codecs.encode": _encoded,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.complex": _complex,
    "decimal.Decimal": _decimal,
    "fractions.Fraction": _fraction,
    **dict.fromkeys(_HASHED, _hashed),
    **dict.fromkeys(("collections.deque", "torch.Size"), _collection),
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _defaulting,
    "numpy.dtype": _dtype,
    "re._compile": _pattern,
    "functools.partial": _partial,
    **dict.fromkeys(_SCALARS, _scalar),
    **dict.fromkeys(_ARRAYS, _array),
    "numpy.ma.core._mareconstruct": _masked,
    **dict.fromkeys(_BUFFERS, _from_buffer),
    "numpy.random._pickle.__generator_ctor": _generator,
    "numpy.random._pickle.__randomstate_ctor": _generator,
    _MAKES_GENERATORS: _bit_generator,
}
