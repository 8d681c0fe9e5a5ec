"""Files that cost their reader more than they cost their writer.

Each is described under 1 GiB and 10 s, and ends in a description; its weights are read in memory that does not grow with it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import builders as b
import pytest
from describing import calls, codes, described, described_in_a_child, tensors

from fifomark.core.findings import Verdict
from fifomark.core.inspection import Inspection
from fifomark.sanitizer.sanitizer import Sanitizer

WEIGHT = b.tensor("0", (2, 2))
BYTES = {"0": bytes(16)}


def zipped(body: bytes) -> bytes:
    return b.archive(b.pickled(body), BYTES)


def doubling(levels: int) -> bytes:
    """A list that holds a list twice, which holds a list twice, …"""
    steps = (b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(levels))
    return b"]q\x00" + b"".join(steps)


def module(cls: str, parameters: bytes, children: bytes) -> bytes:
    state = b.dict_of((b.text("_parameters"), parameters), (b.text("_buffers"), b"}"), (b.text("_modules"), children))
    return b.new(cls) + state + b"b"


def shared_modules(levels: int) -> bytes:
    body = module("torch.nn.modules.linear.Linear", b.dict_of((b.text("w"), WEIGHT)), b"}") + b"q\x00"
    for i in range(levels):
        child = b"h" + bytes([i])
        both = b.dict_of((b.text("0"), child), (b.text("1"), child))
        body += b"0" + module("torch.nn.modules.container.Sequential", b"}", both) + b"q" + bytes([i + 1])
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"]r\xff\xff\xff\xff",
        b"\x8e" + struct.pack("<Q", 1 << 40),
        b"\x95" + struct.pack("<Q", 1 << 60) + b"N",
        b"\x8b\xff\xff\xff\x7f",
        b"X\xff\xff\xff\xff",
    ],
    ids=["LONG_BINPUT", "BINBYTES8", "FRAME", "LONG4", "BINUNICODE"],
)
def test_a_pickle_that_asks_for_more_memory_than_there_is_says_so(body: bytes) -> None:
    assert codes(described_in_a_child(zipped(body))) == ["FM208"]


@pytest.mark.parametrize(
    "body",
    [
        b"]" * 200_000 + b"a" * 199_999,
        b")" + b"\x85" * 200_000,
        b"}" + (b.text("a") + b"}") * 100_000 + b"s" * 100_000,
        b.name("a.b") + b"q\x000)" + b"q\x01h\x00h\x01\x85R" * 50_000,
        b.call("a.b") + b")R" * 50_000,
        doubling(200),
        b.name("a.b") + b"q\xf0000" + doubling(200) + b"q\xf1000h\xf0h\xf1\x85R",
        b"]q\x00h\x00a",
        b"}q\x00" + b.text("a") + b"h\x00s",
        b.name("torch._utils._rebuild_parameter") + b"q\x000" + WEIGHT + b"q\x01h\x00h\x01\x89}\x87R" * 20_000,
    ],
    ids=["lists", "tuples", "dicts", "calls", "chain", "doubling", "doubling argument", "list in itself", "dict in itself", "parameters"],
)
def test_nesting_without_end_is_described(body: bytes) -> None:
    description = described_in_a_child(zipped(body))
    assert set(codes(description)) <= {"FM207", "FM304"}
    assert all(len(text) <= 2_000 for text in calls(description))


def test_a_module_inside_itself_ends() -> None:
    body = b.new("torch.nn.modules.linear.Linear") + b"q\x00"
    state = b.dict_of((b.text("_parameters"), b.dict_of((b.text("w"), WEIGHT))), (b.text("_modules"), b.dict_of((b.text("x"), b"h\x00"))))
    assert list(tensors(described(zipped(body + state + b"b")))) == ["w"]


def test_modules_that_share_their_children_sixty_times_over_are_too_many() -> None:
    assert codes(described_in_a_child(zipped(shared_modules(60)))) == ["FM208"]
    assert len(tensors(described(zipped(shared_modules(5))))) == 32


def test_one_argument_that_repeats_itself_is_shown_within_bounds() -> None:
    wide = b"]q\x00" + b"".join(b"0](" + (b"h" + bytes([i])) * 8 + b"eq" + bytes([i + 1]) for i in range(40))
    calls_of_it = (b.name("a.b") + b"h\x28\x85R0") * 2000
    description = described_in_a_child(zipped(wide + b"0" + calls_of_it + b"N"))
    assert 0 < len(description.calls) <= 1000


def test_a_million_calls_are_listed_by_their_first_ones() -> None:
    body = b"(" + b"".join(b.call(f"m{i}.x") for i in range(3000)) + (b.name("m0.x") + b")R") * 3000 + b"t"
    description = described(zipped(body))
    assert len(description.calls) <= 1000
    assert len({call.name for call in description.calls}) > 900
    assert len(description.globals) == 3000


def test_ten_thousand_names_are_the_most_that_are_followed() -> None:
    description = described(zipped(b"(" + b"".join(b.name(f"m{i}.x") for i in range(10_001)) + b"t"))
    assert codes(description) == ["FM208"]
    assert len(description.globals) == 10_000


def test_fifty_thousand_names_for_one_tensor_are_one_tensor() -> None:
    body = WEIGHT + b"q\x000}(" + b"".join(b.text(f"n{i}") + b"h\x00" for i in range(50_000)) + b"u"
    description = described(zipped(body))
    assert (len(description.tensors), len(tensors(description))) == (1, 50_000)


def test_more_names_than_tensors_are_allowed_are_too_many() -> None:
    body = WEIGHT + b"q\x000}(" + b"".join(b.text(f"n{i}") + b"h\x00" for i in range(100_001)) + b"u"
    assert codes(described(zipped(body))) == ["FM110"]


def test_a_name_of_a_million_characters_is_refused() -> None:
    assert codes(described(zipped(b.ordered_dict((b.text("k" * 1_000_000), WEIGHT))))) == ["FM304"]
    assert codes(described(zipped(b"c" + b"m" * 1_000_000 + b"\nx\n"))) == []


def test_integers_of_a_hundred_thousand_digits_are_never_written_out() -> None:
    huge = b"\x8b" + struct.pack("<I", 100_000) + b"\x7f" * 100_000
    description = described(zipped(b.name("a.b") + huge + b"\x85R0}(" + huge + WEIGHT + b"u"))
    assert calls(description) == ["a.b(<int of 799999 bits>)"]


def test_a_module_whose_names_are_lists_without_end_is_refused() -> None:
    table = b.call("collections.OrderedDict") + b"(" + doubling(200) + WEIGHT + b"u"
    assert codes(described_in_a_child(zipped(module("some.Net", table, b"}")))) == ["FM304"]


def test_a_bomb_is_not_inflated() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X" + struct.pack("<I", 200 << 20) + bytes(200 << 20) + b".")
    assert codes(described_in_a_child(out.getvalue())) == ["FM110"]


def test_a_bomb_that_declares_itself_small_is_not_inflated() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100 << 20))
    body = out.getvalue().replace(struct.pack("<I", 100 << 20), struct.pack("<I", 1000))
    assert codes(described_in_a_child(body)) == ["FM109"]


# Weights


def of_zeros(path: Path, nbytes: int, *shown: bytes) -> Path:
    """A file of these tensors of one deflated storage."""
    body = b.pickled(b.ordered_dict(*((b.text(f"w{i}"), tensor) for i, tensor in enumerate(shown))))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/byteorder", b"little")
        with archive.open("archive/data/0", "w") as storage:
            for at in range(0, nbytes, 1 << 20):
                storage.write(bytes(min(1 << 20, nbytes - at)))
        archive.writestr("archive/version", b"3\n")
    return path


def read(path: Path) -> tuple[Inspection, int]:
    """What the file is, and the bytes that the writer came to hold."""
    with Sanitizer() as sanitizer:
        seen = sanitizer.inspect(path, clean_to=str(path.with_suffix(".clean")))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{sanitizer.pid}/status").read_text().splitlines())
    return seen, int(status["VmHWM"].split()[0]) << 10


def test_thousands_of_views_of_one_storage_take_no_more_memory_than_one(tmp_path: Path) -> None:
    """A sample of each was kept: 33,500 of them came to 4 GB, and the next files were lost."""
    views = [b.tensor("0", (2, 8191), kind="torch.FloatStorage", numel=16_500_000, offset=i * 4100) for i in range(4000)]
    seen, held = read(of_zeros(tmp_path / "a.pt", 66_000_000, *views))
    assert seen.weights is not None
    assert seen.weights.parameters == 4000 * 2 * 8191
    assert held < 250 << 20


def test_elements_that_lie_far_apart_in_zeros_are_not_read_one_by_one(tmp_path: Path) -> None:
    """Five kilobytes took minutes."""
    nbytes = 99 * 3 * 16_400 + 1
    far = b.tensor("0", (100,) * 3, kind="torch.CharStorage", numel=nbytes, stride=(16_400,) * 3)
    seen, _ = read(of_zeros(tmp_path / "a.pt", nbytes, far))
    assert (seen.verdict, [finding.code for finding in seen.findings]) == (Verdict.INVALID, ["FM302"])
    assert "strided" in seen.findings[0].message


def test_zeros_that_inflate_beyond_any_weights_are_refused(tmp_path: Path) -> None:
    nbytes = 560 << 20
    seen, _ = read(of_zeros(tmp_path / "a.pt", nbytes, b.tensor("0", (nbytes // 4,))))
    assert (seen.verdict, [finding.code for finding in seen.findings]) == (Verdict.INVALID, ["FM110"])


@pytest.mark.parametrize(("shape", "stride"), [((50_000, 1000), (1000, 1)), ((1000, 50_000), (1, 1000))], ids=["whole", "transposed"])
def test_what_inflates_is_read_in_little_memory(tmp_path: Path, shape: tuple[int, int], stride: tuple[int, int]) -> None:
    seen, held = read(of_zeros(tmp_path / "a.pt", 200_000_000, b.tensor("0", shape, stride=stride)))
    assert seen.weights is not None
    assert seen.weights.bytes == 200_000_000
    assert held < 250 << 20
