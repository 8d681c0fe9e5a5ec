"""Changes to a pickle that know its opcodes, and pickles made of opcodes at random."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from random import Random

import builders as b

Ops = list[bytes]

NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    255,
    256,
    65535,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    (1 << 62) - 1,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    -(1 << 63),
    1 << 200,
)
GLOBALS = (
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor", "torch.Size", "torch.device",
    "torch._tensor._rebuild_from_type_v2", "torch.FloatStorage", "torch.DoubleStorage", "torch.HalfStorage", "torch.ByteStorage",
    "torch.BoolStorage", "torch.LongStorage", "torch.storage.UntypedStorage", "torch.float8_e4m3fn", "torch.float32", "torch.Tensor",
    "torch.nn.parameter.Parameter", "torch.nn.modules.linear.Linear", "builtins.set", "builtins.dict", "numpy.dtype", "argparse.Namespace",
    "collections.defaultdict", "collections.Counter", "__main__.Net", "torch.serialization._get_layout", "_codecs.encode",
)  # fmt: skip
_RAW = tuple(op.code.encode("latin-1") for op in pickletools.opcodes)


def ops_of(pickle: bytes) -> Ops:
    """The opcodes of an honest pickle, each with its argument, without frames (so that opcodes may come and go)."""
    places = [(op.name, at) for op, _, at in pickletools.genops(pickle)]
    ends = [at for _, at in places[1:]] + [len(pickle)]
    return [pickle[at:end] for (name, at), end in zip(places, ends, strict=True) if name != "FRAME"]


def changed(ops: Ops, rng: Random) -> Ops:
    """`ops` after a few changes."""
    ops = list(ops)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if ops:
            rng.choice(_CHANGES)(ops, rng)
    return ops


def with_payload(ops: Ops, payload: bytes, rng: Random) -> Ops:
    """`ops` with a call whose result is thrown away, kept in a tuple or put beside what was there, somewhere before STOP."""
    at = rng.randrange(1, max(len(ops), 2))
    kept = rng.choice((payload + b"0", b"(" + payload + b"t0", b"(" + payload + b"1", b"(" + payload + b"l0", b"}" + payload + b"Ns0"))
    return [*ops[:at], kept, *ops[at:]]


def payload(marker: str, rng: Random) -> bytes:
    """A call that would touch `marker`, by one of the opcodes that can make one."""
    command = b.text(f"touch {marker}")
    raw = f"touch {marker}".encode()
    short = rng.choice(((b"posix", b"system"), (b"os", b"system"), (b"subprocess", b"getoutput")))
    code = b.text(f"open({marker!r}, 'w')")
    return rng.choice(
        (
            b.name(b".".join(short).decode()) + b.tuple_of(command) + b"R",
            b.name(b".".join(short).decode()) + command + b"\x85R",
            b"(S'" + raw + b"'\ni" + short[0] + b"\n" + short[1] + b"\n",
            b"(" + b.name(b".".join(short).decode()) + command + b"o",
            b.text(short[0].decode()) + b.text(short[1].decode()) + b"\x93" + command + b"\x85R",
            b.name("subprocess.Popen") + command + b"\x85}" + b.text("shell") + b"\x88s\x92",
            b.name("subprocess.Popen") + b.list_of(b.text("touch"), b.text(marker)) + b"\x85\x81",
            b.call("builtins.eval", code),
            b.call("builtins.exec", code),
            b.call("builtins.getattr", b.name("builtins.__import__") + b.text("os") + b"\x85R", b.text("system")) + command + b"\x85R",
            b.call("builtins.map", b.name("posix.system"), b.list_of(command)),
        )
    )


def at_random(rng: Random) -> bytes:
    """A pickle that nobody meant: opcodes in any order, most of them with something on the stack to work on."""
    parts = [b"\x80", bytes([rng.choice((2, 2, 3, 4, 5))])]
    for _ in range(rng.randrange(1, 60)):
        parts.append(rng.choice((_value, _value, _value, _action, _action, _memo))(rng))
    return b"".join([*parts, b"."])


# Single opcodes


def _number(rng: Random) -> bytes:
    value = rng.choice(NUMBERS)
    forms = [b.integer(value), b"I%d\n" % value, b"L%dL\n" % value]
    if 0 <= value < 256:
        forms.append(b"K" + bytes([value]))
    if 0 <= value < 65536:
        forms.append(b"M" + struct.pack("<H", value))
    return rng.choice(forms)


def _text(rng: Random) -> bytes:
    value = rng.choice(("weight", "data", "0", "1", "cpu", "storage", "", "a\0b", "state_dict", "_parameters", "_modules", "é", "x" * 300))
    raw = value.encode()
    forms = [b.text(value), b"\x8d" + struct.pack("<Q", len(raw)) + raw, b"V" + value.encode("raw_unicode_escape") + b"\n"]
    if len(raw) < 256:
        forms += [b"\x8c" + bytes([len(raw)]) + raw, b"U" + bytes([len(raw)]) + raw, b"C" + bytes([len(raw)]) + raw]
    forms.append(b"X\x03\x00\x00\x00" + rng.choice((b"\xed\xa0\x80", b"\xee\x80\x80", b"\xff\xff\xff")))
    return rng.choice(forms)


def _value(rng: Random) -> bytes:
    simple = (
        b"N",
        b"\x88",
        b"\x89",
        b"]",
        b"}",
        b")",
        b"(",
        b"\x8f",
        b"G" + struct.pack(">d", rng.choice((0.0, 1e308, float("nan"), float("inf")))),
    )
    made = rng.choice((_number, _number, _text, _text, _global, None))
    return made(rng) if made else rng.choice(simple)


def _global(rng: Random) -> bytes:
    module, _, name = rng.choice(GLOBALS).rpartition(".")
    if rng.random() < 0.7:
        return b.name(f"{module}.{name}")
    return b.text(module) + b.text(name) + b"\x93"


def _action(rng: Random) -> bytes:
    if rng.random() < 0.8:
        return rng.choice((*b"RRbQt\x85\x86\x87aesu\x90\x91\x81\x92o012ld\x93",)).to_bytes(1, "little")
    return rng.choice(
        (
            *(b"i__main__\nNet\n", b"P0\n", b"\x80\x04", b"\x97", b"\x98"),
            *(b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"),
            b"\x95" + struct.pack("<Q", rng.choice((0, 1, 9, 1 << 40))),
            b"\x96" + struct.pack("<Q", rng.choice((0, 3, 1 << 33))) + b"abc",
        )
    )


def _memo(rng: Random) -> bytes:
    index = rng.choice((0, 1, 2, 5, 255))
    if rng.random() < 0.03:
        return b"r" + struct.pack("<L", rng.choice((1 << 20, 0xFFFFFFFF)))
    return rng.choice(
        (b"q" + bytes([index]), b"h" + bytes([index]), b"\x94", b"p%d\n" % index, b"g%d\n" % index, b"j" + struct.pack("<L", index))
    )


# Changes


def _remove(ops: Ops, rng: Random) -> None:
    at = rng.randrange(len(ops))
    del ops[at : at + rng.choice((1, 1, 1, 2, 5))]


def _repeat(ops: Ops, rng: Random) -> None:
    at, length = rng.randrange(len(ops)), rng.choice((1, 1, 2, 5, 20))
    to = rng.randrange(len(ops) + 1)
    ops[to:to] = ops[at : at + length]


def _swap(ops: Ops, rng: Random) -> None:
    i, j = rng.randrange(len(ops)), rng.randrange(len(ops))
    ops[i], ops[j] = ops[j], ops[i]


def _insert(ops: Ops, rng: Random) -> None:
    ops.insert(rng.randrange(len(ops) + 1), rng.choice((_value, _action, _memo, _memo))(rng))


def _dropped(ops: Ops, rng: Random) -> None:
    """A value that is made and thrown away: it changes nothing, unless somebody's stack is wrong."""
    ops.insert(rng.randrange(len(ops) + 1), _value(rng) + b"0")


def _argument(ops: Ops, rng: Random) -> None:
    """Another argument of the same kind: a number for a number, a text for a text, a global for a global."""
    kinds: tuple[tuple[bytes, Callable[[Random], bytes]], ...] = ((b"KMJI\x8aL", _number), (b"X\x8c\x8dV", _text), (b"c", _global))
    codes, make = rng.choice(kinds)
    fitting = [i for i, op in enumerate(ops) if op[:1] in codes]
    if fitting:
        ops[rng.choice(fitting)] = make(rng)


def _opcode(ops: Ops, rng: Random) -> None:
    """Another opcode before the same argument."""
    at = rng.randrange(len(ops))
    ops[at] = rng.choice(_RAW) + ops[at][1:]


def _renamed(ops: Ops, rng: Random) -> None:
    """A text changes a little: a key, a storage's name, a device."""
    fitting = [i for i, op in enumerate(ops) if op[:1] == b"X" and len(op) > 5]
    if fitting:
        at = rng.choice(fitting)
        text = ops[at][5:].decode(errors="replace")
        texts = [op[5:].decode(errors="replace") for op in ops if op[:1] == b"X"]
        ops[at] = b.text(rng.choice((text.upper(), text + "\0", text + " ", text[:-1], text * 2, "module." + text, rng.choice(texts))))


def _memory(ops: Ops, rng: Random) -> None:
    """A memo that is written or read somewhere else."""
    fitting = [i for i, op in enumerate(ops) if op[:1] in b"qh" and len(op) == 2]
    if fitting:
        at = rng.choice(fitting)
        ops[at] = rng.choice((b"q", b"h", ops[at][:1], ops[at][:1])) + bytes([(ops[at][1] + rng.choice((1, -1, 0, 2))) % 256])


def _bytes(ops: Ops, rng: Random) -> None:
    at = rng.randrange(len(ops))
    op = bytearray(ops[at])
    op[rng.randrange(len(op))] ^= 1 << rng.randrange(8)
    ops[at] = bytes(op)


def _framed(ops: Ops, rng: Random) -> None:
    at = rng.randrange(len(ops) + 1)
    true = sum(map(len, ops[at : at + rng.choice((1, 5, len(ops)))]))
    ops.insert(at, b"\x95" + struct.pack("<Q", max(0, true + rng.choice((0, 0, 0, 1, -1, 1 << 20)))))


def _protocol(ops: Ops, rng: Random) -> None:
    at = rng.choice((0, 0, rng.randrange(len(ops) + 1)))
    ops[at : at + rng.randrange(2)] = [b"\x80" + bytes([rng.choice((0, 1, 2, 3, 4, 5, 6, 255))])]


def _after_stop(ops: Ops, rng: Random) -> None:
    ops += rng.choice(([b"."], [b"N."], [b"\0"], list(ops)))


_CHANGES: tuple[Callable[[Ops, Random], None], ...] = (
    _remove, _repeat, _swap, _insert, _insert, _dropped, _argument, _argument, _argument, _opcode, _renamed, _renamed, _memory, _bytes,
    _framed, _protocol, _after_stop,
)  # fmt: skip
