"""Recall: every callable outside the allowlist, by every opcode that reaches it, in every place where a pickle can stand, is unsafe."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import builders as b
import pytest
from callables import CALLABLES, FAMILIES
from judging import findings

from fifomark.core.findings import Level, Verdict
from fifomark.sanitizer.allowlist import BUILDING_BLOCKS, PLAIN_DATA, from_unknown_package
from fifomark.sanitizer.sanitizer import Sanitizer

KNOWN = [name for name in CALLABLES if not from_unknown_package(name)]
DATA = {"0": b.floats(640), "1": b.floats(10, 1)}
PAIRS = [(b.text("weight"), b.tensor("0", (10, 64))), (b.text("bias"), b.tensor("1", (10,)))]
WEIGHTS = b.ordered_dict(*PAIRS)
ARGUMENT = b.text("touch RAN")
EVERYWHERE = CALLABLES[::5] + CALLABLES[2::5]  # those of the whole matrix: some of every family, to keep it under a minute
POP = b"0"


def short(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def stack_global(name: str, *, dotted: bool = False) -> bytes:
    """STACK_GLOBAL; `dotted` puts all but the first step into the name, which protocol 4 walks."""
    module, _, attribute = name.partition(".") if dotted else name.rpartition(".")
    return b"\x80\x04" + short(module) + short(attribute) + b"\x93"


def inst(name: str, *args: bytes) -> bytes:
    module, _, attribute = name.rpartition(".")
    return b"(" + b"".join(args) + b"i" + module.encode() + b"\n" + attribute.encode() + b"\n"


def chained(name: str) -> bytes:
    """getattr(getattr(import_module("a"), "b"), "c")(…)"""
    module, *steps = name.split(".")
    fetched = b.call("importlib.import_module", b.text(module))
    for step in steps:
        fetched = b.call("builtins.getattr", fetched, b.text(step))
    return fetched + ARGUMENT + b"\x85R"


def fetched_from_its_home(name: str) -> bytes:
    """getattr(a.b, "c")(…), which is resolved by name."""
    home, _, attribute = name.rpartition(".")
    return b.call("builtins.getattr", b.name(home if "." in home else f"sys.modules.{home}"), b.text(attribute)) + ARGUMENT + b"\x85R"


def extension(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return b.call("copyreg.add_extension", b.text(module), b.text(attribute), b.integer(7)) + POP + b"\x82\x07" + ARGUMENT + b"\x85R"


def persistent_storage(name: str) -> bytes:
    return b.tuple_of(b.text("storage"), b.name(name), b.text("0"), b.text("cpu"), b.integer(640)) + b"Q"


STATE = b.dict_of((b.text("x"), b.integer(1)))
MODULE_STATE = b.dict_of((b.text("_parameters"), b"}"), (b.text("_modules"), b"}"))

# Each leaves one object on the stack.
OPCODES: dict[str, Callable[[str], bytes]] = {
    "GLOBAL and REDUCE": lambda name: b.call(name, ARGUMENT),
    "STACK_GLOBAL and REDUCE": lambda name: stack_global(name) + ARGUMENT + b"\x85R",
    "dotted STACK_GLOBAL and REDUCE": lambda name: stack_global(name, dotted=True) + ARGUMENT + b"\x85R",
    "through the memo": lambda name: b.name(name) + b"q\xf00h\xf0" + ARGUMENT + b"\x85R",
    "INST": lambda name: inst(name, ARGUMENT),
    "INST without arguments, given a module's state": lambda name: inst(name) + MODULE_STATE + b"b",
    "OBJ": lambda name: b"(" + b.name(name) + ARGUMENT + b"o",
    "OBJ without arguments, given a module's state": lambda name: b"(" + b.name(name) + b"o" + MODULE_STATE + b"b",
    "NEWOBJ": lambda name: b.new(name, ARGUMENT),
    "NEWOBJ_EX": lambda name: b.name(name) + b")" + b.dict_of((b.text("args"), ARGUMENT)) + b"\x92",
    "BUILD of an instance": lambda name: b.new(name) + STATE + b"b",
    "BUILD of the global": lambda name: b.name(name) + STATE + b"b",
    "SETITEM of the global": lambda name: b.name(name) + b.text("x") + ARGUMENT + b"s",
    "APPEND to the global": lambda name: b.name(name) + ARGUMENT + b"a",
    "a chain of getattr": chained,
    "getattr from its home": fetched_from_its_home,
    "a bare reference": b.name,
    "a bare reference by STACK_GLOBAL": stack_global,
    "an extension code": extension,
    "the class of a persistent id": lambda name: b.tuple_of(b.text("module"), b.name(name), b.text("x.py"), b.text("x")) + b"Q",
    "the storage of a persistent id": persistent_storage,
    "the function of a rebuilder": lambda name: b.call(
        "torch._tensor._rebuild_from_type_v2", b.name(name), b.name("torch.Tensor"), b.tuple_of(ARGUMENT), b"N"
    ),
    "the factory of a defaultdict": lambda name: b.call("collections.defaultdict", b.name(name)),
    "a method of a class": lambda name: b.name("torch.nn.modules.linear.Linear") + b.dict_of((b.text("forward"), b.name(name))) + b"b",
}  # fmt: skip


def zipped(body: bytes, **more: bytes) -> bytes:
    extra = {f"archive/{name.replace('__', '/')}.pkl": data for name, data in more.items()}
    return b.archive(b.pickled(body), DATA, extra=extra)


def rebuilt(*, key: bytes = b"", shape: bytes = b"", hooks: bytes = b"", more: bytes = b"", version: int = 2, size: bytes = b"") -> bytes:
    """A state_dict with one tensor more, whose arguments hold something."""
    storage = b.tuple_of(b.text("storage"), b.name("torch.FloatStorage"), b.text("1"), key or b.text("cpu"), size or b.integer(10)) + b"Q"
    rest = [b.integer(0), shape or b.tuple_of(b.integer(10)), b.tuple_of(b.integer(1)), b"\x89", hooks or b.call("collections.OrderedDict")]
    tensor = b.call(f"torch._utils._rebuild_tensor_v{version}", storage, *rest, *([more] if more else []))
    return b.ordered_dict(*PAIRS, (b.text("more"), tensor))


def optimizer(payload: bytes) -> bytes:
    state = b.dict_of((b.integer(0), b.dict_of((b.text("exp_avg"), b.tensor("1", (10,))), (b.text("step"), payload))))
    groups = b.list_of(b.dict_of((b.text("params"), b.list_of(b.integer(0)))))
    return b.dict_of(
        (b.text("model"), WEIGHTS), (b.text("optimizer"), b.dict_of((b.text("state"), state), (b.text("param_groups"), groups)))
    )


def module(payload: bytes) -> bytes:
    parameters = b.ordered_dict(*PAIRS)
    attributes = (b.text("_parameters"), parameters), (b.text("_buffers"), b"}"), (b.text("_modules"), b"}"), (b.text("act"), payload)
    return b.new("torch.nn.modules.linear.Linear") + b.dict_of(*attributes) + b"b"


def legacy_with(place: int, payload: bytes) -> bytes:
    system = b.dict_of((b.text("little_endian"), b"\x88"))
    parts = [b.integer(b.LEGACY_MAGIC), b.integer(1001), system, WEIGHTS, b.list_of(b.text("0"), b.text("1"))]
    parts[place] = payload + POP + parts[place]
    return b"".join(map(b.pickled, parts)) + b"".join(struct.pack("<q", len(data) // 4) + data for data in DATA.values())


def torchscript(body: bytes, constants: bytes = b")") -> bytes:
    return b.archive(b.pickled(body), DATA, extra={"archive/constants.pkl": b.pickled(constants), "archive/code/__torch__/n.py": b"pass\n"})


# Each takes what an opcode leaves.
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "a dropped result before the state_dict": lambda p: zipped(p + POP + WEIGHTS),
    "a dropped result after it": lambda p: zipped(WEIGHTS + p + POP),
    "a value of the state_dict": lambda p: zipped(b.ordered_dict(*PAIRS, (b.text("x"), p))),
    "a key of a dict": lambda p: zipped(b.ordered_dict(*PAIRS, (b.text("x"), b"}" + p + b"Ns"))),
    "settings inside a checkpoint": lambda p: zipped(b.dict_of((b.text("model"), WEIGHTS), (b.text("cfg"), b.list_of(b.tuple_of(p))))),
    "the state_dict's metadata": lambda p: zipped(WEIGHTS + b.dict_of((b.text("_metadata"), b.ordered_dict((b.text(""), p)))) + b"b"),
    "an argument of an OrderedDict": lambda p: zipped(b.call("collections.OrderedDict", b.list_of(b.list_of(b.text("x"), p)))),
    "the hooks of a tensor": lambda p: zipped(rebuilt(hooks=b.ordered_dict((b.integer(0), p)))),
    "the shape of a tensor": lambda p: zipped(rebuilt(shape=b.tuple_of(p))),
    "the dtype of a tensor": lambda p: zipped(rebuilt(version=3, more=p)),
    "the metadata of a tensor": lambda p: zipped(rebuilt(more=b.dict_of((b.text("conj"), p)))),
    "the place of a storage": lambda p: zipped(rebuilt(key=p)),
    "the size of a storage": lambda p: zipped(rebuilt(size=p)),
    "the state of a parameter": lambda p: zipped(
        b.ordered_dict((b.text("w"), b.call("torch._utils._rebuild_parameter_with_state", PAIRS[0][1], b"\x88", b"N", p)))
    ),
    "the state of an optimizer": lambda p: zipped(optimizer(p)),
    "an attribute of a whole module": lambda p: zipped(module(p)),
    "another pickle of the archive": lambda p: zipped(WEIGHTS, more=b.pickled(p)),
    "the data of a TorchScript": lambda p: torchscript(p + POP + WEIGHTS),
    "the constants of a TorchScript": lambda p: torchscript(WEIGHTS, p),
    **{
        f"the {name} of a legacy file": lambda p, place=i: legacy_with(place, p)  # type: ignore[misc]
        for i, name in enumerate(("magic number", "protocol version", "system's description", "object", "list of storages"))
    },
    "a pickle that torch did not write": lambda p: b.pickled(p),
}


@pytest.fixture(scope="module")
def sanitizer() -> Iterator[Sanitizer]:
    with Sanitizer() as one:
        yield one


def test_there_are_callables_enough_and_none_of_them_is_allowed() -> None:
    assert len(set(EVERYWHERE)) >= 250
    assert not [name for name in CALLABLES if name in BUILDING_BLOCKS or name in PLAIN_DATA]
    assert all(names for names in FAMILIES.values())


def seen_as_code(body: bytes) -> bool:
    """Whether the file is refused as one that would run or import something."""
    return any(finding.code in ("FM201", "FM202") and finding.level is Level.UNSAFE for finding in findings(body))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_it_is_the_payload_that_is_seen(place: Callable[[bytes], bytes]) -> None:
    assert not seen_as_code(place(b"N"))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("opcode", OPCODES.values(), ids=OPCODES)
def test_it_is_unsafe(opcode: Callable[[str], bytes], place: Callable[[bytes], bytes]) -> None:
    assert [name for name in EVERYWHERE if not seen_as_code(place(opcode(name)))] == []


@pytest.mark.parametrize("opcode", OPCODES.values(), ids=OPCODES)
def test_all_the_others_are_unsafe_in_one_place_or_another(opcode: Callable[[str], bytes]) -> None:
    places = cycle(PLACES.values())
    assert [name for name in CALLABLES if not seen_as_code(next(places)(opcode(name)))] == []


@pytest.mark.parametrize(("opcode", "place"), [(o, p) for o in OPCODES for p in PLACES])
def test_it_is_refused_by_the_whole_sanitizer_and_does_not_run(opcode: str, place: str, sanitizer: Sanitizer, tmp_path: Path) -> None:
    """With what would really run: a touched file."""
    marker = tmp_path / "RAN"
    body = PLACES[place](OPCODES[opcode]("posix.system").replace(ARGUMENT, b.text(f"touch {marker}")))
    (tmp_path / "a.pt").write_bytes(body)
    seen = sanitizer.inspect(tmp_path / "a.pt", clean_to=str(tmp_path / "clean.pt"))
    assert seen.verdict is Verdict.UNSAFE
    assert "posix" in " ".join([*seen.would_run, *(finding.evidence or "" for finding in seen.findings)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("name", [*KNOWN[::20], "my.pkg.Outer.Inner"])
def test_a_module_of_a_known_package_or_of_a_name_within_a_name_is_not_excused(name: str) -> None:
    nested = stack_global(name, dotted=name.startswith("my."))
    for place in (PLACES["a value of the state_dict"], PLACES["an attribute of a whole module"]):
        assert seen_as_code(place(nested + b")\x81" + MODULE_STATE + b"b"))


@pytest.mark.parametrize("more", [b.text("x") + b.integer(1) + b"s", b.integer(1) + b"a", STATE + b"b"], ids=["SETITEM", "APPEND", "BUILD"])
def test_a_module_of_an_unknown_class_is_excused_only_as_modules_are_pickled(more: bytes) -> None:
    built = b.new("my.pkg.Net") + MODULE_STATE + b"b"
    assert not seen_as_code(zipped(built + POP + WEIGHTS))
    assert seen_as_code(zipped(built + more + POP + WEIGHTS))


def test_a_module_of_an_old_name_is_one_that_would_be_imported() -> None:
    """From protocol 3 on Python 2's names are not translated: UserDict.OrderedDict is somebody's module UserDict."""
    assert seen_as_code(zipped(b.call("UserDict.OrderedDict") + POP + WEIGHTS))
    assert not seen_as_code(zipped(b.call("__builtin__.set", b.list_of()) + POP + WEIGHTS))


@pytest.mark.parametrize("name", ["torch._C._VariableFunctionsClass.tanh", "torch._C._nn.gelu", "torch.nn.functional.relu"])
def test_a_function_that_may_be_named_may_not_be_called(name: str) -> None:
    home, _, attribute = name.rpartition(".")
    fetched = b.call("builtins.getattr", b.name(home), b.text(attribute)) if "Class" in name else b.name(name)
    assert not [f for f in findings(zipped(module(fetched))) if f.level is Level.UNSAFE]
    assert [f.code for f in findings(zipped(module(fetched + ARGUMENT + b"\x85R"))) if f.level is Level.UNSAFE] == ["FM211"]


@pytest.mark.parametrize("name", ["collections.OrderedDict", "collections.Counter", "torch._utils._rebuild_tensor_v2", "pathlib.Path"])
@pytest.mark.parametrize("put", [STATE + b"b", b.text("x") + b.integer(1) + b"s", b.integer(1) + b"a"], ids=["BUILD", "SETITEM", "APPEND"])
def test_what_is_allowed_may_not_be_patched(name: str, put: bytes) -> None:
    assert [f for f in findings(zipped(b.name(name) + put + POP + WEIGHTS)) if f.level is Level.UNSAFE]


@pytest.mark.parametrize(
    "function",
    [b.name("torch.Tensor"), b.name("torch.nn.modules.linear.Linear"), module(b"N"), b.new("my.pkg.Net") + MODULE_STATE + b"b"],
    ids=["a tensor of any size", "a layer of any size", "forward of a layer", "forward of somebody's module"],
)
def test_what_a_rebuilder_is_given_to_call_is_judged_as_a_call(function: bytes) -> None:
    call = b.call("torch._tensor._rebuild_from_type_v2", function, b.name("torch.Tensor"), b.tuple_of(b.integer(1 << 30)), b"N")
    assert [f for f in findings(zipped(call + POP + WEIGHTS)) if f.level is Level.UNSAFE]
