"""Ways round a scanner, each through the whole sanitizer: refused, in time, without running, and the next honest file passes."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import builders as b
import pytest

from fifomark.core.findings import Verdict
from fifomark.core.inspection import Inspection
from fifomark.core.policy import Limits
from fifomark.sanitizer.sanitizer import Sanitizer

SECONDS = 30.0  # until the answer: eight at most on a machine that has nothing else to do, and for ever without a limit
SHAPES = {"weight": (10, 64), "bias": (10,)}
DATA = {"0": b.floats(640), "1": b.floats(10, 1)}
WEIGHTS = b.ordered_dict((b.text("weight"), b.tensor("0", (10, 64))), (b.text("bias"), b.tensor("1", (10,))))
HONEST = b.archive(b.pickled(WEIGHTS), DATA)
POP = b"0"
END = 22  # bytes of a zip's end record

Body = Callable[[Path], bytes]


class Attack(NamedTuple):
    """`code` leads the findings; `seen` stands in what would have run."""

    body: Body
    code: str
    verdict: Verdict = Verdict.UNSAFE
    seen: str | None = None
    limits: Limits = Limits()


QUICK = Limits(parse_seconds=0.5)  # for what would never end


@pytest.fixture(scope="module")
def sanitizer() -> Iterator[Sanitizer]:
    with Sanitizer() as one:
        yield one


def command(marker: Path) -> bytes:
    return b.text(f"touch {marker}")


def dropped(payload: Callable[[Path], bytes]) -> Body:
    """A zip whose pickle does `payload`, drops what that gives, and is an honest state_dict in the end."""
    return lambda marker: b.archive(b.pickled(payload(marker) + POP + WEIGHTS), DATA)


def within(*more: tuple[bytes, bytes]) -> Body:
    """A zip whose state_dict holds `more` beside its weights."""
    return lambda marker: b.archive(b.pickled(WEIGHTS + b"(" + b"".join(key + value for key, value in more) + b"u"), DATA)


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def payload_archive(marker: Path) -> bytes:
    return b.archive(b.pickled(b.touch(marker) + POP + WEIGHTS), DATA)


# Zip: two programs, two readings


def changed(member: bytes, change: Callable[[bytearray, int, int], None]) -> Body:
    """The honest archive after `change(body, start of the member's local header, start of its central one)`."""

    def body(marker: Path) -> bytes:
        whole = bytearray(HONEST)
        change(whole, whole.index(member) - 30, whole.rindex(member) - 46)
        return bytes(whole)

    return body


def packed(offset: int, kind: str, value: int, *, local: bool = True, central: bool = False) -> Callable[[bytearray, int, int], None]:
    def change(body: bytearray, at_local: int, at_central: int) -> None:
        if local:
            struct.pack_into(kind, body, at_local + offset, value)
        if central:
            struct.pack_into(kind, body, at_central + offset + 2, value)

    return change


def renamed(body: bytearray, local: int, central: int) -> None:
    body[local + 30 : local + 30 + 7] = b"decoyed"


def members(*listed: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in listed:
            archive.writestr(name, data)
    return out.getvalue()


def twice(marker: Path) -> bytes:
    decoy, payload = (b.pickled(body + WEIGHTS) for body in (b"N0", b.touch(marker) + POP))
    rest = [(f"archive/data/{key}", data) for key, data in DATA.items()]
    # zipfile warns of the second name, so it is written as another one of the same length
    return members(("archive/data.pkl", payload), ("archive/DaTa.pkl", decoy), *rest).replace(b"DaTa.pkl", b"data.pkl")


def upper_case(marker: Path) -> bytes:
    return payload_archive(marker).replace(b"archive/data.pkl", b"archive/DATA.PKL")


def big_endian(name: str) -> Body:
    rest = [(f"archive/data/{key}", data) for key, data in DATA.items()]
    return lambda marker: members(("archive/data.pkl", b.pickled(WEIGHTS)), *rest, (f"archive/{name}", b"big"))


def wrong_bytes(member: str) -> Body:
    def body(marker: Path) -> bytes:
        whole = bytearray(HONEST)
        at = whole.index(member.encode()) + len(member) + 3
        whole[at] ^= 1
        return bytes(whole)

    return body


def hidden_between(marker: Path) -> bytes:
    directory = HONEST.index(b"PK\x01\x02")
    body = bytearray(HONEST[:directory] + payload_archive(marker) + HONEST[directory:])
    struct.pack_into("<L", body, len(body) - END + 16, len(body) - END - (len(HONEST) - END - directory))
    return bytes(body)


def neighbours(marker: Path) -> bytes:
    """A storage that claims more elements than its record holds: under mmap the next records' bytes would show."""
    tensor = b.tensor("0", (20, 64))
    return b.archive(b.pickled(b.ordered_dict((b.text("weight"), tensor))), DATA)


def two_types(marker: Path) -> bytes:
    pairs = (b.text("a"), b.tensor("1", (10,))), (b.text("b"), b.tensor("1", (10,), kind="torch.IntStorage"))
    return b.archive(b.pickled(b.ordered_dict(*pairs)), {"1": DATA["1"]})


ZIP = {
    "two archives of equal layout one after the other": Attack(lambda m: payload_archive(m) + HONEST, "FM109"),
    "a decoy behind the payload's archive with junk between": Attack(lambda m: payload_archive(m) + b"\0" * 7 + HONEST, "FM109"),
    "the same name twice": Attack(twice, "FM109"),
    "DATA.PKL": Attack(upper_case, "FM109"),
    "a second root": Attack(lambda m: b.archive(b.pickled(WEIGHTS), DATA, extra={"other/data.pkl": b.pickled(b.touch(m))}), "FM109"),
    "another name in the local header": Attack(changed(b"archive/data.pkl", renamed), "FM109"),
    "encryption flag in the local header only": Attack(changed(b"archive/data.pkl", packed(6, "<H", 1)), "FM109"),
    "descriptor flag in the local header only": Attack(changed(b"archive/data.pkl", packed(6, "<H", 8)), "FM109"),
    "another size in the local header": Attack(changed(b"archive/data/0", packed(22, "<L", 8)), "FM109"),
    "another checksum in the local header": Attack(changed(b"archive/data/0", packed(14, "<L", 8)), "FM109"),
    "version 9.9 in both headers": Attack(changed(b"archive/data.pkl", packed(4, "<H", 99, central=True)), "FM109"),
    "junk after the end": Attack(lambda m: HONEST + b"#!/bin/sh\n", "FM109"),
    "an archive hidden between members and directory": Attack(hidden_between, "FM109"),
    "a pickle before an honest archive": Attack(lambda m: b.pickled(b.touch(m)) + HONEST, "FM201", seen="posix.system"),
    "a wrong checksum of the pickle": Attack(wrong_bytes("archive/data.pkl"), "FM111", Verdict.INVALID),
    "a wrong checksum of a storage": Attack(wrong_bytes("archive/data/1"), "FM111", Verdict.INVALID),
    "a big-endian marker": Attack(big_endian("byteorder"), "FM114", Verdict.INVALID),
    "a big-endian marker in capitals": Attack(big_endian("BYTEORDER"), "FM109"),
    "more elements than bytes": Attack(neighbours, "FM109"),
    "one storage of two types": Attack(two_types, "FM109"),
    "a path out of the archive": Attack(lambda m: b.archive(b.pickled(WEIGHTS), DATA, extra={"archive/../../x": b"x"}), "FM109"),
    "a pickle in another record": Attack(
        lambda m: b.archive(b.pickled(WEIGHTS), DATA, extra={"archive/more.pkl": b.pickled(b.touch(m))}), "FM201", seen="posix.system"
    ),
    "cut off in the middle": Attack(lambda m: HONEST[: len(HONEST) // 2], "FM107", Verdict.INVALID),
}

# Pickles: what a disassembler misses


def straddling(marker: Path) -> bytes:
    """A FRAME that ends inside the argument of an opcode: the C machine reads on."""
    return b"\x80\x04\x95" + struct.pack("<Q", 4) + b.touch(marker)


def extension(marker: Path) -> bytes:
    register = b.call("copyreg.add_extension", b.text("posix"), b.text("system"), b.integer(7))
    return register + POP + b"\x82\x07" + command(marker) + b"\x85R"


def chain(marker: Path) -> bytes:
    fetched = b.call("builtins.getattr", b.call("importlib.import_module", b.text("posix")), b.text("system"))
    return fetched + command(marker) + b"\x85R"


def dotted(marker: Path) -> bytes:
    return short("torch") + short("serialization.os.system") + b"\x93" + command(marker) + b"\x85R"


def inside_its_size(marker: Path) -> bytes:
    return b.tuple_of(b.text("storage"), b.name("torch.FloatStorage"), b.text("0"), b.text("cpu"), b.touch(marker)) + b"Q"


def rebuilt_by_system(marker: Path) -> bytes:
    return b.call("torch._tensor._rebuild_from_type_v2", b.name("posix.system"), b.name("torch.Tensor"), b.tuple_of(command(marker)), b"N")


SYSTEM = {
    "popped result": lambda m: b.touch(m),
    "INST": lambda m: b"(" + command(m) + b"iposix\nsystem\n",
    "OBJ": lambda m: b"(" + b.name("posix.system") + command(m) + b"o",
    "STACK_GLOBAL": lambda m: short("posix") + short("system") + b"\x93" + command(m) + b"\x85R",
    "Python 2 name": lambda m: b.call("__builtin__.eval", command(m)),
    "frame shorter than an argument": straddling,
    "memoize after binget": lambda m: b"Nq\x050h\x05\x940" + b.name("posix.system") + b"\x940h\x02" + command(m) + b"\x85R",
    "put after pop": lambda m: b"NN0q\x050" + b.name("posix.system") + b"q\x050h\x05" + command(m) + b"\x85R",
    "INT with 0x": lambda m: b"I0x10\n0" + b.touch(m),
    "LONG with 0x": lambda m: b"L0x10L\n0" + b.touch(m),
    "STRING that is not ASCII": lambda m: b"S'\xff\xfe'\n0" + b.touch(m),
    "a getattr chain": chain,
}

PICKLE = {
    **{f"posix.system by {name}": Attack(dropped(payload), "FM201", seen="touch") for name, payload in SYSTEM.items()},
    "a call as a storage's size": Attack(dropped(inside_its_size), "FM109", seen="posix.system"),
    "a tensor rebuilt by posix.system": Attack(dropped(rebuilt_by_system), "FM201", seen="posix.system('touch"),
    "a dotted name": Attack(dropped(dotted), "FM201", seen="torch.serialization.os.system"),
    "NEWOBJ": Attack(dropped(lambda m: b.new("subprocess.Popen", command(m))), "FM201", seen="subprocess.Popen"),
    "NEWOBJ_EX": Attack(
        dropped(lambda m: b.name("subprocess.Popen") + b")" + b.dict_of((b.text("args"), command(m))) + b"\x92"),
        "FM201",
        seen="subprocess.Popen",
    ),
    "an extension code registered by the same pickle": Attack(dropped(extension), "FM201", seen="copyreg.add_extension"),
    "an import without a call": Attack(dropped(lambda m: b.name("antigravity.fly")), "FM202"),
    "a name with Storage in it": Attack(dropped(lambda m: b.call("posix.systemStorage", command(m))), "FM201", seen="systemStorage"),
    "a building block called as a function": Attack(dropped(lambda m: b.call("torch.nn.modules.linear.Linear", command(m))), "FM211"),
    "torch.Tensor of four gigabytes": Attack(within((b.text("x"), b.call("torch.Tensor", b.integer(1 << 30)))), "FM211"),
    "a class given another method": Attack(
        dropped(lambda m: b.name("torch.nn.modules.linear.Linear") + b.dict_of((b.text("forward"), b.name("os.system"))) + b"b"), "FM202"
    ),
    "an environment variable set": Attack(dropped(lambda m: b.name("os.environ") + b.text("LD_PRELOAD") + b.text("x") + b"s"), "FM201"),
    "a second pickle after STOP": Attack(
        lambda m: b.archive(b.pickled(WEIGHTS) + b.pickled(b.touch(m)), DATA), "FM209"
    ),
    "a state put into a storage": Attack(
        lambda m: b.archive(
            b.pickled(WEIGHTS.replace(b"Q", b"QN" + b.dict_of((b.text("kind"), b.text("torch.IntStorage"))) + b"\x86b", 1)), DATA
        ),
        "FM211",
    ),
    "a persistent id of another kind": Attack(dropped(lambda m: b"P0\n"), "FM207", Verdict.INVALID),
    "an extension code of nobody's": Attack(dropped(lambda m: b"\x84\x01\0\0\0"), "FM207", Verdict.INVALID),
}  # fmt: skip

# Legacy files


def legacy_with(place: int, payload: Callable[[Path], bytes] = b.touch) -> Body:
    def body(marker: Path) -> bytes:
        system = b.dict_of((b.text("little_endian"), b"\x88"))
        parts = [b.integer(b.LEGACY_MAGIC), b.integer(1001), system, WEIGHTS, b.list_of(b.text("0"), b.text("1"))]
        parts[place] = payload(marker) + POP + parts[place]
        storages = b"".join(struct.pack("<q", len(data) // 4) + data for data in DATA.values())
        return b"".join(map(b.pickled, parts)) + storages

    return body


def tar_too(marker: Path) -> bytes:
    """torch tries tar before pickles, and tarfile reads a checksum up to its NUL only."""
    filler = b.PROTO2 + b"T" + struct.pack("<I", 600) + bytes(600) + POP + b.integer(b.LEGACY_MAGIC) + b.STOP
    body = bytearray(filler + b.legacy(b.pickled(WEIGHTS), DATA)[len(b.pickled(b.integer(b.LEGACY_MAGIC))) :])
    body[148:156] = b" " * 8
    body[148:156] = b"%05o\0xx" % sum(body[:512])
    return bytes(body)


def counted(marker: Path) -> bytes:
    """An element count of four gigabytes in three hundred bytes."""
    honest = b.legacy(b.pickled(b.ordered_dict((b.text("w"), b.tensor("0", (1,), numel=1 << 30)))), {})
    keys = b.PROTO2 + b.list_of() + b.STOP
    return honest.removesuffix(keys) + b.pickled(b.list_of(b.text("0"))) + struct.pack("<q", 1 << 30) + bytes(4)


LEGACY = {
    **{
        f"code in the {name} of a legacy file": Attack(legacy_with(i), "FM201", seen="posix.system")
        for i, name in enumerate(("magic number", "protocol version", "system's description", "object", "list of storages"))
    },
    "a payload before a legacy file": Attack(
        lambda m: b.pickled(b.touch(m)) + b.legacy(b.pickled(WEIGHTS), DATA), "FM201", seen="posix.system"
    ),
    "a legacy file that is a tar archive too": Attack(tar_too, "FM109"),
    "a legacy file with an archive behind it": Attack(lambda m: b.legacy(b.pickled(WEIGHTS), DATA) + payload_archive(m), "FM109"),
    "a legacy element count of four gigabytes": Attack(counted, "FM107", Verdict.INVALID),
    "a protocol 0 pickle": Attack(lambda m: b"cposix\nsystem\n(S'touch %s'\ntR." % str(m).encode(), "FM201", seen="posix.system"),
}

# Exhaustion


def pickle_of(body: bytes) -> Body:
    return lambda marker: b.archive(b.pickled(body), DATA)


def colliding(count: int) -> bytes:
    """Integer keys that all have one hash."""
    keys = (b"\x8a\x0a" + ((i + 1) * ((1 << 61) - 1)).to_bytes(10, "little") for i in range(count))
    return b"}(" + b"".join(key + b"N" for key in keys) + b"u"


def doubling(levels: int) -> bytes:
    steps = (b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(levels))
    return b"]q\x00" + b"".join(steps)


def bomb(marker: Path) -> bytes:
    pickle = b"\x80\x02X" + struct.pack("<I", 200 << 20) + bytes(200 << 20) + b"."
    return members(("archive/data.pkl", pickle), method=zipfile.ZIP_DEFLATED)


def lying_bomb(marker: Path) -> bytes:
    return members(("archive/data.pkl", bytes(50 << 20)), method=zipfile.ZIP_DEFLATED).replace(
        struct.pack("<I", 50 << 20), struct.pack("<I", 1000)
    )


def expanded(count: int, side: int) -> bytes:
    """`count` names for one element seen `side` × `side` times."""
    tensor = b.tensor("0", (side, side), numel=640, stride=(0, 0))
    return tensor + b"q\x000}(" + b"".join(b.text(f"n{i}") + b"h\x00" for i in range(count)) + b"u"


def shared_items(count: int, key: bytes = b"K\x01") -> bytes:
    """A list of fifty thousand pairs, as the argument of `count` OrderedDicts."""
    items = b"](" + (key + b"K\x02\x86") * 50_000 + b"eq\x010"
    return items + b.name("collections.OrderedDict") + b"q\x020](" + b"h\x02h\x01\x85R" * count + b"e"


def shared_table(count: int) -> bytes:
    """A dict of fifty thousand names, as the parameters of `count` modules."""
    table = b"}(" + b"".join(b.text(f"w{i}") + b"N" for i in range(50_000)) + b"uq\x010"
    module = b"h\x02)\x81}(" + b.text("_parameters") + b"h\x01" + b.text("_modules") + b"}ub"
    return table + b.name("torch.nn.modules.linear.Linear") + b"q\x020](" + module * count + b"e"


ENDLESS = "FM208"
EXHAUSTION = {
    "LONG_BINPUT 4294967295": Attack(pickle_of(b"Nr\xff\xff\xff\xff"), ENDLESS),
    "BINBYTES8 of a terabyte": Attack(pickle_of(b"\x8e" + struct.pack("<Q", 1 << 40)), ENDLESS),
    "tuples that double, as a key": Attack(pickle_of(b"})" + b"2\x86" * 60 + b"Ns"), ENDLESS, limits=QUICK),
    "a key nested two hundred thousand deep": Attack(pickle_of(b"})" + b"\x85" * 200_000 + b"Ns"), ENDLESS),
    "thirty thousand keys with one hash": Attack(pickle_of(colliding(30_000)), ENDLESS, limits=QUICK),
    "two hundred thousand nested lists": Attack(pickle_of(b"]" * 200_000 + b"a" * 199_999), "FM305", Verdict.INVALID),
    "lists that double": Attack(pickle_of(doubling(200)), "FM305", Verdict.INVALID),
    "a list in itself": Attack(pickle_of(b"]q\x00h\x00a"), "FM305", Verdict.INVALID),
    "a call nested fifty thousand deep": Attack(pickle_of(b.name("a.b") + b"q\x000)q\x01" + b"h\x00h\x01\x85Rq\x01" * 50_000), "FM201"),
    "a pickle of two hundred megabytes deflated": Attack(bomb, "FM110", Verdict.INVALID),
    "a bomb that declares itself small": Attack(lying_bomb, "FM109"),
    "a million calls": Attack(pickle_of(b.name("a.b") + b"q\x000" + b"h\x00)R0" * 300_000 + b"N"), "FM201"),
    "forty gigabytes from one element": Attack(pickle_of(expanded(1, 100_000)), "FM302", Verdict.INVALID),
    "fifty thousand names for one expanded tensor": Attack(pickle_of(expanded(50_000, 100_000)), "FM302", Verdict.INVALID),
    "a view of terabytes": Attack(pickle_of(expanded(1, 1 << 30)), "FM301"),
    "more tensors than are taken": Attack(pickle_of(expanded(100_001, 1)), "FM110", Verdict.INVALID),
    "a shape of two to the sixtieth": Attack(
        pickle_of(b.ordered_dict((b.text("w"), b.tensor("0", (1 << 60,), numel=640)))), "FM301"
    ),
    "ten thousand and one globals": Attack(pickle_of(b"(" + b"".join(b.name(f"m{i}.x") for i in range(10_001)) + b"t"), "FM202"),
    "one list as the items of three hundred dicts": Attack(pickle_of(shared_items(300)), ENDLESS),
    "one name, time and again, in three hundred dicts": Attack(pickle_of(shared_items(300, b.text("w"))), ENDLESS),
    "one table of parameters in three hundred modules": Attack(pickle_of(shared_table(300)), "FM110", Verdict.INVALID),
}  # fmt: skip

# Other formats under a .pt name


def torchscript(pickle: bytes) -> bytes:
    names = {"archive/constants.pkl": b.pickled(b")"), "archive/code/__torch__/net.py": b"class Net(Module):\n  pass\n"}
    return b.archive(pickle, DATA, extra=names)


FORMATS = {
    "a TorchScript whose data calls": Attack(lambda m: torchscript(b.pickled(b.touch(m) + POP + WEIGHTS)), "FM201", seen="posix.system"),
    "a TorchScript whose constants call": Attack(
        lambda m: b.archive(b.pickled(WEIGHTS), DATA, extra={"archive/constants.pkl": b.pickled(b.touch(m))}), "FM201", seen="posix.system"
    ),
    "a torch.package": Attack(
        lambda m: members(("p/.data/extern_modules", b"os\n"), ("p/m/m.pkl", b.pickled(b.touch(m))), ("p/net.py", b"import os\n")),
        "FM106",
        Verdict.INVALID,
    ),
    "a package that is a model too": Attack(
        lambda m: b.archive(b.pickled(b.touch(m)), DATA, extra={"archive/.data/extern_modules": b"os\n"}), "FM106", Verdict.INVALID
    ),
    "an exported program": Attack(
        lambda m: members(("p/archive_format", b"pt2"), ("p/models/model.json", b"{}")), "FM106", Verdict.INVALID
    ),
    "a pickle that begins like a Windows program": Attack(lambda m: b"MZZ0" + b.touch(m) + b".", "FM201", seen="posix.system"),
    "a plain pickle": Attack(lambda m: b.pickled(b.touch(m)), "FM201", seen="posix.system"),
    "a sparse tensor": Attack(
        within((b.text("s"), b.call("torch._utils._rebuild_sparse_tensor", b"N", b"N"))), "FM304", Verdict.INVALID
    ),
    "a tensor without bytes": Attack(
        within((b.text("s"), b.call("torch._utils._rebuild_meta_tensor_no_storage", b"N", b"N", b"N", b"N"))), "FM304", Verdict.INVALID
    ),
}  # fmt: skip

ATTACKS = {**ZIP, **PICKLE, **LEGACY, **EXHAUSTION, **FORMATS}


def inspected(sanitizer: Sanitizer, tmp_path: Path, body: bytes, limits: Limits | None = None) -> tuple[Inspection, float]:
    path = tmp_path / "submitted.pt"
    path.write_bytes(body)
    started = time.monotonic()
    return sanitizer.inspect(path, clean_to=str(tmp_path / "clean.pt"), limits=limits), time.monotonic() - started


def test_the_honest_file_that_the_attacks_are_made_of_is_clean(sanitizer: Sanitizer, tmp_path: Path) -> None:
    for body in (HONEST, b.legacy(b.pickled(WEIGHTS), DATA)):
        seen, _ = inspected(sanitizer, tmp_path, body)
        assert (seen.verdict, seen.findings) == (Verdict.CLEAN, ())


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_it_is_refused_in_time_and_does_not_run(attack: Attack, sanitizer: Sanitizer, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    seen, seconds = inspected(sanitizer, tmp_path, attack.body(marker), attack.limits)
    assert (seen.findings[0].code, seen.verdict) == (attack.code, attack.verdict)
    assert attack.seen is None or any(attack.seen in call for call in seen.would_run)
    assert seconds < SECONDS
    assert not marker.exists()
    assert seen.clean is None
    assert not (tmp_path / "clean.pt").exists()
    assert inspected(sanitizer, tmp_path, HONEST)[0].verdict is Verdict.CLEAN


# What is costly to walk through, and is inert here: the weights come through, the rest is dropped.
DROPPED = {
    "a set that hashes for ever": b.call("collections.deque", doubling(50)),
}


@pytest.mark.parametrize("value", DROPPED.values(), ids=DROPPED)
def test_data_that_is_costly_to_load_is_dropped_and_costs_nothing(value: bytes, sanitizer: Sanitizer, tmp_path: Path) -> None:
    seen, seconds = inspected(sanitizer, tmp_path, within((b.text("x"), value))(tmp_path))
    assert (seen.verdict, seen.findings[0].code) == (Verdict.FLAGGED, "FM205")
    assert seen.weights is not None
    assert [tensor.name for tensor in seen.weights.tensors] == list(SHAPES)
    assert (tmp_path / "clean.pt").stat().st_size < 4_000
    assert seconds < SECONDS


def test_names_made_to_forge_a_terminal_arrive_printable(sanitizer: Sanitizer, tmp_path: Path) -> None:
    pair = (b.text("x\x1b[2J\r\nclean"), b.call("po\x1b[31msix.system", b.text("\x1b]0;title\x07")))
    seen, _ = inspected(sanitizer, tmp_path, within(pair)(tmp_path))
    said = [text for f in seen.findings for text in (f.where, f.message, f.evidence or "")] + list(seen.would_run)
    assert seen.verdict is Verdict.UNSAFE
    assert all(text.isprintable() for text in said)
