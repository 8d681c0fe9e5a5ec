"""Ways round a scanner of pickles: each must be seen, and none may run."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import builders as b
import pytest
import torch
from describing import calls, codes, described, tensors, uses

WEIGHT = b.tensor("0", (2, 2))
BYTES = {"0": bytes(16)}
MAGIC, PROTOCOL = b.integer(b.LEGACY_MAGIC), b.integer(1001)
SYSTEM = b.dict_of((b.text("little_endian"), b"\x88"))
POP = b"0"


def zipped(body: bytes) -> bytes:
    """A file whose pickle runs `body`, drops what that gives, and then is an honest state_dict."""
    return b.archive(b.pickled(body + POP + b.ordered_dict((b.text("weight"), WEIGHT))), BYTES)


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def command(marker: Path) -> str:
    return f"touch {marker}"


def expected(marker: Path) -> str:
    return f"posix.system({command(marker)!r})"


PAYLOADS = {
    "reduce": lambda arg: b.name("posix.system") + b"(" + arg + b"tR",
    "tuple1": lambda arg: b.name("posix.system") + arg + b"\x85R",
    "inst": lambda arg: b"(" + arg + b"iposix\nsystem\n",
    "obj": lambda arg: b"(" + b.name("posix.system") + arg + b"o",
    "stack_global": lambda arg: short("posix") + short("system") + b"\x93" + arg + b"\x85R",
    "through the memo": lambda arg: b.name("posix.system") + b"r\x07\x00\x00\x000" + b"j\x07\x00\x00\x00" + arg + b"\x85R",
    "memoize after binget": lambda arg: b"Nq\x050h\x05\x940" + b.name("posix.system") + b"\x940" + b"h\x02" + arg + b"\x85R",
    "put after pop": lambda arg: b"NN0q\x050" + b.name("posix.system") + b"q\x050h\x05" + arg + b"\x85R",
    "proto in the middle": lambda arg: b"\x80\x04" + b.name("posix.system") + arg + b"\x85R",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_call_whose_result_is_dropped_is_seen_and_does_not_run(payload: object, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    description = described(zipped(payload(b.text(command(marker)))))  # type: ignore[operator]
    assert calls(description) == [expected(marker)]
    assert uses(description, "posix.system") == {"call"}
    assert list(tensors(description)) == ["weight"]
    assert not marker.exists()


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_torch_itself_would_have_run_it(payload: object, tmp_path: Path) -> None:
    """The control: the samples above are no straw men."""
    marker = tmp_path / "ran"
    torch.load(io.BytesIO(zipped(payload(b.text(command(marker))))), weights_only=False)  # type: ignore[operator]
    assert marker.exists()


@pytest.mark.parametrize("place", range(5), ids=["magic", "protocol", "system", "object", "keys"])
def test_a_call_in_any_of_the_five_legacy_pickles_is_seen(place: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = b.touch(marker) + POP
    parts = [MAGIC, PROTOCOL, SYSTEM, b.ordered_dict((b.text("weight"), WEIGHT)), b.list_of(b.text("0"))]
    parts[place] = payload + parts[place]
    description = described(b"".join(map(b.pickled, parts)) + struct.pack("<q", 4) + bytes(16))
    assert (description.container, calls(description)) == ("legacy", [expected(marker)])
    assert list(tensors(description)) == ["weight"]
    assert not marker.exists()


def test_a_payload_before_the_magic_number_is_seen(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    honest = b.legacy(b.pickled(b.ordered_dict()), {})
    description = described(b.pickled(b.touch(marker)) + honest)
    assert (description.container, calls(description)) == (None, [expected(marker)])


def test_a_second_pickle_after_stop_is_refused(tmp_path: Path) -> None:
    body = b.pickled(b.ordered_dict((b.text("weight"), WEIGHT))) + b.pickled(b.touch(tmp_path / "ran"))
    assert codes(described(b.archive(body, BYTES))) == ["FM209"]


def test_every_pickle_of_an_archive_is_read(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    honest = b.pickled(b.ordered_dict((b.text("weight"), WEIGHT)))
    for name in ("archive/extra.pkl", "archive/code/__torch__/net.py.debug_pkl", "archive/constants.pkl"):
        description = described(b.archive(honest, BYTES, extra={name: b.pickled(b.touch(marker))}))
        assert [(call.text, call.where) for call in description.calls] == [(expected(marker), name)]


def test_an_extension_code_is_refused_and_the_call_that_made_it_seen() -> None:
    register = b.call("copyreg.add_extension", b.text("posix"), b.text("system"), b.integer(7))
    description = described(zipped(register + POP + b"\x82\x07"))
    assert calls(description) == ["copyreg.add_extension('posix', 'system', 7)"]
    assert codes(description) == ["FM207"]


@pytest.mark.parametrize("opcode", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"], ids=["ext1", "ext2", "ext4"])
def test_an_extension_code_of_nobodys_is_refused(opcode: bytes) -> None:
    assert codes(described(zipped(opcode))) == ["FM207"]


def test_a_dotted_name_is_shown_whole() -> None:
    description = described(zipped(short("torch") + short("serialization.os.system") + b"\x93" + short("id") + b"\x85R"))
    assert calls(description) == ["torch.serialization.os.system('id')"]


def test_a_getattr_chain_is_shown_resolved() -> None:
    fetched = b.call("builtins.getattr", b.call("importlib.import_module", b.text("os")), b.text("system"))
    description = described(zipped(fetched + b.text("id") + b"\x85R"))
    assert calls(description)[-1] == "builtins.getattr(importlib.import_module('os'), 'system')('id')"


def test_python_2_names_are_shown_as_what_they_are_loaded_as() -> None:
    assert calls(described(zipped(b.call("__builtin__.eval", b.text("1"))))) == ["builtins.eval('1')"]
    assert uses(described(zipped(b.call("copy_reg._reconstructor"))), "copyreg._reconstructor") == {"call"}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b.new("subprocess.Popen", b.text("id")), "subprocess.Popen('id')"),
        (b.name("subprocess.Popen") + b")" + b.dict_of((b.text("args"), b.text("id"))) + b"\x92", "subprocess.Popen(args='id')"),
    ],
    ids=["newobj", "newobj_ex"],
)
def test_a_class_that_is_built_is_seen(payload: bytes, text: str) -> None:
    description = described(zipped(payload))
    assert calls(description) == [text]
    assert uses(description, "subprocess.Popen") == {"new"}


def test_a_rebuilder_that_is_built_or_given_a_state_is_seen_as_such() -> None:
    assert uses(described(zipped(b.new("torch._utils._rebuild_tensor_v2"))), "torch._utils._rebuild_tensor_v2") == {"call", "misuse", "new"}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b.name("os.environ") + b.text("LD_PRELOAD") + b.text("x.so") + b"s", "os.environ.__setitem__('LD_PRELOAD', 'x.so')"),
        (b.name("sys.path") + b.text("/evil") + b"a", "sys.path.extend(['/evil'])"),
        (b.name("builtins.print") + b.dict_of((b.text("x"), b.integer(1))) + b"b", "builtins.print.__setstate__({'x': 1})"),
        (
            b.name("torch.nn.modules.linear.Linear") + b.dict_of((b.text("forward"), b.name("os.system"))) + b"b",
            "torch.nn.modules.linear.Linear.__setstate__({'forward': os.system})",
        ),
    ],
    ids=["setitem", "append", "build", "monkey patch"],
)
def test_what_is_put_into_a_global_is_a_call(payload: bytes, text: str) -> None:
    description = described(zipped(payload))
    assert text in calls(description)
    assert list(tensors(description)) == ["weight"]


def test_a_class_given_a_state_that_is_no_modules_is_no_module() -> None:
    odd = b.new("some.Thing") + b.dict_of((b.text("_parameters"), b.integer(1)), (b.text("_modules"), b.integer(2))) + b"b"
    assert uses(described(zipped(odd)), "some.Thing") == {"new"}


def test_one_instance_that_is_no_module_takes_the_word_from_its_class() -> None:
    module = b.new("some.Net") + b.dict_of((b.text("_parameters"), b"}"), (b.text("_modules"), b"}")) + b"b"
    assert uses(described(zipped(module)), "some.Net") == {"module"}
    assert uses(described(zipped(module + POP + b.new("some.Net"))), "some.Net") == {"new"}


def test_a_name_with_storage_in_it_is_like_any_other() -> None:
    description = described(zipped(b.call("posix.systemStorage", b.text("id"))))
    assert calls(description) == ["posix.systemStorage('id')"]


@pytest.mark.parametrize(
    "opcode", [b"P0\n", b"NQ", b.tuple_of(b.text("storage")) + b"Q", b.call("a.b") + b"Q"], ids=["text", "none", "short", "call"]
)
def test_a_persistent_id_that_torch_does_not_write_is_malformed(opcode: bytes) -> None:
    assert "FM207" in codes(described(zipped(opcode)))


@pytest.mark.parametrize(("opcode", "value"), [(b"I0x10\n", "int"), (b"L0x10L\n", "int"), (b"S'\xff\xfe'\n", "str")])
def test_numbers_and_strings_are_read_by_the_machine_that_torch_uses(opcode: bytes, value: str) -> None:
    description = described(b.archive(b.pickled(opcode), {}))
    assert (description.root, codes(description)) == (value, [])


def test_a_frame_shorter_than_what_straddles_it_hides_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    arg = b.text(command(marker))
    payload = b"\x80\x04\x95" + struct.pack("<Q", 20) + b.name("posix.system") + arg + b"\x85R0" + b.ordered_dict() + b"."
    assert calls(described(b.archive(payload, {}))) == [expected(marker)]


def test_a_backward_hook_is_refused() -> None:
    storage = b.tuple_of(b.text("storage"), b.name("torch.FloatStorage"), b.text("0"), b.text("cpu"), b.integer(4)) + b"Q"
    hooks = b.ordered_dict((b.integer(0), b.name("torch.nn.functional.relu")))
    sizes = b.tuple_of(b.integer(4)), b.tuple_of(b.integer(1))
    tensor = b.call("torch._utils._rebuild_tensor_v2", storage, b.integer(0), *sizes, b"\x89", hooks)
    assert codes(described(b.archive(b.pickled(b.ordered_dict((b.text("w"), tensor))), BYTES))) == ["FM211"]


def test_a_value_put_into_a_tensor_is_refused() -> None:
    """Loading would change the numbers: what the file holds is not what a program would see."""
    changed = b.tensor("0", (2, 2)) + b.integer(0) + b.integer(7) + b"s"
    assert codes(described(b.archive(b.pickled(b.ordered_dict((b.text("w"), changed))), BYTES))) == ["FM211"]


@pytest.mark.parametrize("numel", [1, 5, 4000, -4])
def test_a_storage_whose_size_differs_between_pickle_and_file_is_ambiguous(numel: int) -> None:
    """torch does not compare them under mmap=True, and shows the bytes of the next records."""
    tensor = b.tensor("0", (1,), numel=numel)
    assert codes(described(b.archive(b.pickled(b.ordered_dict((b.text("w"), tensor))), BYTES))) == ["FM109"]


@pytest.mark.parametrize(("shape", "offset"), [((-2, 2), 0), ((2**63, 1), 0), ((2, 2), -1), ((2, 2), 2**70)])
def test_sizes_that_no_tensor_can_have_are_refused(shape: tuple[int, ...], offset: int) -> None:
    tensor = b.tensor("0", shape, numel=4, offset=offset)
    assert codes(described(b.archive(b.pickled(b.ordered_dict((b.text("w"), tensor))), BYTES))) == ["FM301"]


@pytest.mark.parametrize("args", [(), (b"N", b"N", b"N", b"N", b"N", b"N"), (b.text("0"),) * 6], ids=["none", "Nones", "strings"])
def test_a_rebuilder_with_other_arguments_is_not_understood(args: tuple[bytes, ...]) -> None:
    odd = b.call("torch._utils._rebuild_tensor_v2", *args)
    assert codes(described(b.archive(b.pickled(b.ordered_dict((b.text("w"), odd))), BYTES))) == ["FM304"]


def test_the_last_of_two_values_for_one_name_is_the_one() -> None:
    pairs = (b.text("w"), WEIGHT), (b.text("w"), b.tensor("1", (3,)))
    description = described(b.archive(b.pickled(b.ordered_dict(*pairs)), {**BYTES, "1": bytes(12)}))
    assert {name: tensor.shape for name, tensor in tensors(description).items()} == {"w": (3,)}


def test_two_keys_that_read_alike_are_refused() -> None:
    pairs = (b.text("1"), WEIGHT), (b.integer(1), b.tensor("1", (3,)))
    assert codes(described(b.archive(b.pickled(b.dict_of(*pairs)), {**BYTES, "1": bytes(12)}))) == ["FM304"]


def test_names_that_are_no_unicode_stay_different_and_decodable() -> None:
    pairs = [(b"X\x03\x00\x00\x00" + raw, WEIGHT) for raw in (b"\xed\xa0\x80", b"\xed\xa0\x81")]
    assert len(tensors(described(b.archive(b.pickled(b.ordered_dict(*pairs)), BYTES)))) == 2


def test_control_characters_in_a_name_arrive_as_they_are() -> None:
    assert list(tensors(described(b.archive(b.pickled(b.ordered_dict((b.text("a\x1b[31m\n\0"), WEIGHT))), BYTES)))) == ["a\x1b[31m\n\0"]


def test_an_unhashable_key_in_the_systems_description_is_no_crash() -> None:
    system = b.call("collections.OrderedDict") + b"(]Nu"
    assert codes(described(b.legacy(b.pickled(b.ordered_dict()), {}, system=system))) == ["FM114"]
