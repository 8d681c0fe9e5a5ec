"""Plain data is excused by what it is given, not by its name: the same call can be a number, all memory, or a pointer of the attacker's."""

from __future__ import annotations

import datetime
import functools
import io
import pathlib
import re
import uuid
from argparse import Namespace
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import builders as b
import numpy as np
import pytest
import torch
from judging import findings
from torch import nn

from fifomark.core.findings import Level
from fifomark.sanitizer.allowlist import BUILDING_BLOCKS, PLAIN_DATA
from fifomark.torchfile.arguments import FITS

WEIGHTS = b.ordered_dict((b.text("weight"), b.tensor("0", (10, 64))))
DATA = {"0": b.floats(640)}
ENDLESS = b.call("builtins.range", b.integer(10**13))
TRUE, FALSE, NONE = b"\x88", b"\x89", b"N"
EMPTY = b.tuple_of(b.integer(0))


def dtype(code: str, *state: bytes) -> bytes:
    made = b.call("numpy.dtype", b.text(code), FALSE, TRUE)
    return made + b.tuple_of(*state) + b"b" if state else made


def state_of(flags: int, size: int = -1, align: int = -1, names: bytes = NONE, fields: bytes = NONE) -> list[bytes]:
    return [b.integer(3), b.text("|"), NONE, names, fields, *map(signed, (size, align, flags))]


def signed(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def array(kind: bytes, raw: bytes, shape: bytes = EMPTY, type_of: str = "numpy.ndarray") -> bytes:
    empty = b.call("numpy._core.multiarray._reconstruct", b.name(type_of), EMPTY, b.text("b"))
    return empty + b.tuple_of(b.integer(1), shape, kind, FALSE, raw) + b"b"


GENERATOR = "numpy.random._pickle.__generator_ctor"
HUGE = b.tuple_of(b.integer(10**13))
ONE = b.tuple_of(b.integer(1))
POINTER = b.call("_codecs.encode", b.text("AAAAAAAA"), b.text("latin1"))
OBJECTS = dtype("O8", *state_of(63))
DISGUISED = dtype("O8", *state_of(0))
INSIDE = b.dict_of((b.text("a"), b.tuple_of(dtype("f8"), b.integer(0))))
OUTSIDE = b.dict_of((b.text("a"), b.tuple_of(dtype("f8"), b.integer(1 << 20))))

LETTERS = "[\0-\U0010ffff]"
TENSOR = b.tensor("0", (10, 64))


def state(key: str, value: bytes) -> bytes:
    return b.dict_of((b.text(key), value))


def size(value: int) -> bytes:
    return state("out_features", b.integer(value))


def partial(cls: str, args: bytes, named: bytes = b"}", kept: str | None = None, more: bytes = NONE) -> bytes:
    return b.call("functools.partial", b.name(cls)) + b.tuple_of(b.name(kept or cls), args, named, more) + b"b"


def masked(
    kind: bytes, raw: bytes, mask: bytes = POINTER, filling: bytes = NONE, kind_of: str = "numpy.ma.MaskedArray", born: bytes = EMPTY
) -> bytes:
    empty = b.call("numpy.ma.core._mareconstruct", b.name(kind_of), b.name("numpy.ndarray"), born, b.text("b"))
    return empty + b.tuple_of(b.integer(1), ONE, kind, FALSE, raw, mask, filling) + b"b"


def pattern(text: str, flags: int = 32) -> bytes:
    return b.call("re._compile", b.text(text), b.integer(flags))


def packed(*args: bytes) -> bytes:
    return b.new("torch.nn.utils.rnn.PackedSequence", *args)


ATTACKS = {
    "objects called numbers": array(DISGUISED, POINTER, ONE),
    "objects called numbers, as one number": b.call("numpy.core.multiarray.scalar", DISGUISED, POINTER),
    "objects called numbers, from a buffer": b.call("numpy._core.numeric._frombuffer", POINTER, DISGUISED, ONE, b.text("C")),
    "objects made of bytes": array(OBJECTS, POINTER, ONE),
    "fewer objects than the shape says": array(OBJECTS, b.list_of(NONE), b.tuple_of(b.integer(10**9))),
    "a dtype that changes its mind": dtype("O8", *state_of(63)) + b.tuple_of(*state_of(0)) + b"b",
    "a number without size": dtype("f8", *state_of(0, 0, 0)),
    "a text that ends elsewhere": dtype("S4", *state_of(0, 1 << 20, 1)),
    "a text without alignment": dtype("U4", *state_of(8, 16, 0)),
    "a field outside its record": dtype("V8", *state_of(16, 8, 1, b.tuple_of(b.text("a")), OUTSIDE)),
    "objects in a record of numbers": dtype(
        "V8", *state_of(16, 8, 1, b.tuple_of(b.text("a")), b.dict_of((b.text("a"), b.tuple_of(OBJECTS, b.integer(0)))))
    ),
    "something put into an array": array(dtype("f8"), POINTER, ONE) + b.integer(0) + b.integer(7) + b"s",
    "a dtype that is changed before it is used": dtype("V8", *state_of(16, 8, 1, b.tuple_of(b.text("a")), INSIDE + b"q\xf1"))
    + b"q\xf20h\xf1" + b.text("a") + b.tuple_of(dtype("f8"), b.integer(1 << 20)) + b"s0" + array(b"h\xf2", POINTER, ONE),
    "a dtype of code of its own": b.call("numpy.dtype", b.text("f8,f8"), FALSE, TRUE),
    "a dtype as NEWOBJ": b.new("numpy.dtype", b.text("O8")),
    "an array that is born large": b.call("numpy.core.multiarray._reconstruct", b.name("numpy.ndarray"), HUGE, b.text("b")),
    "an array of a subclass": array(dtype("f8"), POINTER, ONE, "torch.nn.modules.linear.Linear"),
    "an array made by its class": b.call("numpy.ndarray", HUGE),
    "a generator that calls what it is given": b.call(GENERATOR, b.integer(10**13), b.name("builtins.bytearray")),
    "a generator of another class": b.call("numpy.random._pickle.__bit_generator_ctor", b.name("torch.nn.modules.linear.Linear")),
    "a fraction of ten billion digits": b.call("fractions.Fraction", b.text("1e9999999999")),
    "a bytearray of ten terabytes": b.call("builtins.bytearray", b.integer(10**13)),
    "a bytearray of four gigabytes": b.call("builtins.bytearray", b.integer(1 << 32)),
    "bytes of ten terabytes": b.call("builtins.bytes", b.integer(10**13)),
    "bytes of a range": b.call("builtins.bytes", ENDLESS),
    "a bytearray through a rebuilder": b.call(
        "torch._tensor._rebuild_from_type_v2", b.name("builtins.bytearray"), b.name("torch.Tensor"), b.tuple_of(b.integer(10**13)), NONE
    ),
    "punycode that decodes for a minute": b.call("_codecs.encode", b.text("é" * 90_000), b.text("punycode")),
    "a codec of another name": b.call("_codecs.encode", b.text("x"), b.text("zlib_codec")),
    "an endless deque": b.call("collections.deque", ENDLESS),
    "an endless count": b.call("collections.Counter", ENDLESS),
    "an endless count as NEWOBJ": b.new("collections.Counter", ENDLESS),
    "an endless set": b.call("builtins.set", ENDLESS),
    "an endless frozenset": b.call("builtins.frozenset", ENDLESS),
    "an endless shape": b.call("torch.Size", ENDLESS),
    "an endless shape as NEWOBJ": b.new("torch.Size", ENDLESS),
    "a hook that is called": b.new("torch.nn.modules.module._WrappedHook") + ONE + b"R",
    "a hook made by its class": b.call("torch.nn.utils.weight_norm.WeightNorm", b.text("weight"), b.integer(0)),
    "an optimizer made by its class": b.call("torch.optim.sgd.SGD", b.list_of()),
    "a callback made by its class": b.call("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", b.text("/tmp")),
    "a number of numpy's made by its class": b.call("numpy.int64", b.text("9" * 10_000)),
    "a pattern that ignores case, which goes through every letter of a range": pattern(f"{LETTERS * 99}", 2),
    "a pattern that ignores case by itself": pattern(f"(?i){LETTERS}"),
    "a pattern that prints": pattern("a", 128),
    "a long pattern": pattern("a|" * 501),
    "a pattern that is none": b.call("re._compile", ENDLESS, b.integer(32)),
    "a layer of any size, still to be made": partial("torch.nn.modules.linear.Linear", b.tuple_of(b.integer(10**9), b.integer(10**9))),
    "a layer of a size by name": partial("torch.nn.modules.linear.Linear", b.tuple_of(), size(10**9)),
    "a layer of a size in a tuple": partial("torch.nn.modules.conv.Conv2d", b.tuple_of(), state("k", b.tuple_of(b.integer(10**9)))),
    "a class that is changed behind its back": partial("torch.optim.adam.Adam", b.tuple_of(), kept="torch.nn.modules.linear.Linear"),
    "a partial with attributes": partial("torch.optim.adam.Adam", b.tuple_of(), more=state("values", b.name("torch.optim.adam.Adam"))),
    "a function that is kept": b.call("functools.partial", b.name("torch.nn.functional.pad")),
    "a partial that is called": partial("torch.optim.adam.Adam", b.tuple_of()) + ONE + b"R",
    "a partial of a partial": b.call("functools.partial", partial("torch.optim.adam.Adam", b.tuple_of())),
    "a masked array of objects": masked(OBJECTS, POINTER),
    "a masked array of objects called numbers": masked(DISGUISED, POINTER),
    "a masked array that is filled by something": masked(dtype("f8"), POINTER, filling=b.new("argparse.Namespace")),
    "a masked array of another class": masked(dtype("f8"), POINTER, kind_of="numpy.matrix"),
    "a masked array whose mask is no bytes": masked(dtype("f8"), POINTER, mask=ENDLESS),
    "a masked array that is born large": masked(dtype("f8"), POINTER, born=HUGE),
    "sequences of one order, of which torch works out the other": packed(TENSOR, TENSOR, TENSOR, NONE),
    "sequences of no tensors": packed(ENDLESS, TENSOR, NONE, NONE),
    "sequences made by their class": b.call("torch.nn.utils.rnn.PackedSequence", TENSOR),
    "a decimal of many digits": b.call("decimal.Decimal", b.text("9" * 100_000)),
}  # fmt: skip


def saved(value: bytes) -> bytes:
    return b.archive(b.pickled(b.dict_of((b.text("state_dict"), WEIGHTS), (b.text("x"), value))), DATA)


@pytest.mark.parametrize("value", ATTACKS.values(), ids=ATTACKS)
def test_what_no_honest_file_gives_it_is_unsafe_and_shown(value: bytes) -> None:
    worst = [f for f in findings(saved(value)) if f.level is Level.UNSAFE]
    assert {f.code for f in worst} == {"FM211"}
    assert all(f.evidence for f in worst)


def test_the_one_bad_call_among_many_good_ones_is_the_one_that_is_shown() -> None:
    good = [b.call("builtins.bytearray", b.call("builtins.bytes"))] * 50
    found = findings(saved(b.list_of(*good, b.call("builtins.bytearray", b.integer(10**13)), *good)))
    assert found[0].code == "FM211"
    assert found[0].evidence is not None
    assert found[0].evidence.startswith(f"builtins.bytearray({10**13})")


DATES = np.array(["2026-01-02", "2026-01-03"], dtype="M8[D]")
RECORDS = np.array([(1.5, 2, "ab")], dtype=[("a", "f4"), ("b", "i8"), ("c", "U3")])
ALIGNED = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)


def schedule(mode: Any) -> torch.optim.lr_scheduler.CyclicLR:
    return torch.optim.lr_scheduler.CyclicLR(optimizer(), 0.1, 0.2, mode=mode)


HONEST: dict[str, Any] = {
    **{f"an array of {code}": np.arange(4).astype(code) for code in ("f2", "f4", ">f8", "i1", "u2", "i8", "?", "c8", "c16", "S3", "U5")},
    **{f"a number of {code}": np.arange(4).astype(code)[1] for code in ("f2", "f4", "f8", "i8", "u1", "?", "c16", "S3", "U5")},
    **{f"a dtype {code}": np.dtype(code) for code in ("f4", "<U7", "S3", "O", "M8[ns]", "m8", "V12", "g")},
    "an array of Fortran's order": np.asfortranarray(np.ones((2, 3))),
    "an empty array": np.zeros((0, 3)),
    "an array of objects": np.array(["a", None, 3], dtype=object),
    "an array of arrays": np.array([np.ones(2), np.ones(3)], dtype=object),
    "an array of dates": DATES,
    "a date of numpy's": DATES[0],
    "an array of records": RECORDS,
    "an array of aligned records": ALIGNED,
    "a generator": np.random.default_rng(3),
    "an old generator": np.random.RandomState(3),
    "the state of an old generator": np.random.RandomState(3).get_state(),
    "the generator of torch": torch.Generator().manual_seed(3),
    "bytes": [b"", b"ab\xff", bytearray(), bytearray(b"ab\xff")],
    "numbers": [Fraction(3, 4), Decimal("1.5e-300"), Decimal("NaN"), complex(1, -2)],
    "types of numpy's": [np.uint16, np.uint64, np.complex64, np.str_, np.bytes_, np.bool, np.longdouble, np.datetime64, np.void],
    "a masked array": np.ma.array([1.5, 2.5], mask=[False, True]),
    "a masked array that has a filling": np.ma.array([1, 2], mask=[False, True], fill_value=9),
    "a matrix": np.ones((1, 2)).view(np.matrix),
    "patterns": [re.compile("a+(?:b|c)(?P<d>e)", re.MULTILINE), re.compile(b"x", re.DOTALL)],
    "classes with some of their arguments": [
        functools.partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
        functools.partial(nn.LayerNorm, eps=1e-6),
    ],
    "sequences of several lengths": [
        nn.utils.rnn.pack_padded_sequence(torch.rand(3, 2, 4), lengths, enforce_sorted=False) for lengths in ([3, 2], [2, 3])
    ],
    "sequences sorted by length": nn.utils.rnn.pack_padded_sequence(torch.rand(3, 2, 4), [3, 2]),
    "schedulers": [schedule(kind) for kind in ("triangular", "triangular2", "exp_range")],
    "a chain of schedulers": torch.optim.lr_scheduler.ChainedScheduler([torch.optim.lr_scheduler.StepLR(optimizer(), 1)]),
    "the state of a scheduler with a function": torch.optim.lr_scheduler.LambdaLR(optimizer(), lambda _: 1.0).state_dict(),
    "the state of a scheduler that shrinks its cycles": schedule("exp_range").state_dict(),
    "ranges": [range(50_000), slice(None), slice(1, 10**12, 2)],
    "collections": [deque([1, 2], maxlen=9), deque(), Counter("abca"), Counter({"a": 1}), {1, 2}, frozenset({3}), torch.Size([2, 3])],
    "times": [datetime.datetime.now(datetime.UTC), datetime.date.today(), datetime.timedelta(1), datetime.time(3)],
    "the rest": [Namespace(lr=1e-3), pathlib.Path("a/b"), uuid.uuid4(), OrderedDict(a=1), torch.device("cuda:0")],
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", HONEST.values(), ids=HONEST)
def test_what_honest_files_give_it_is_no_more_than_a_warning(value: Any, protocol: int) -> None:
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.ones(2, 2)}, "x": value}, file, pickle_protocol=protocol)
    assert [f for f in findings(file.getvalue()) if f.level.rank > Level.WARNING.rank] == []


def test_every_name_that_is_looked_at_is_on_a_list() -> None:
    assert set(FITS) <= set(PLAIN_DATA) | set(BUILDING_BLOCKS)
