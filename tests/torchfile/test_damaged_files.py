from __future__ import annotations

import io
import zipfile

import builders
import pytest
from describing import codes, described, tensors

from fifomark.torchfile.source import ParseLimits

SHAPES = {"weight": (4, 3), "bias": (4,)}


def zip_file() -> bytes:
    return builders.state_dict(SHAPES)


def legacy_file() -> bytes:
    pairs = [(builders.text(name), builders.tensor(str(i), shape)) for i, (name, shape) in enumerate(SHAPES.items())]
    return builders.legacy(builders.pickled(builders.ordered_dict(*pairs)), {"0": builders.floats(12), "1": builders.floats(4)})


def test_files_built_by_hand_are_read_like_torchs() -> None:
    for body in (zip_file(), legacy_file()):
        description = described(body)
        assert codes(description) == []
        assert {name: tensor.shape for name, tensor in tensors(description).items()} == SHAPES


@pytest.mark.parametrize("body", [zip_file(), legacy_file()], ids=["zip", "legacy"])
def test_a_file_cut_anywhere_is_described_and_never_whole(body: bytes) -> None:
    for length in range(len(body)):
        description = described(body[:length])
        assert description.container is None or codes(description), length


@pytest.mark.parametrize("body", [zip_file(), legacy_file()], ids=["zip", "legacy"])
def test_a_file_with_any_byte_changed_is_described(body: bytes) -> None:
    for at in range(0, len(body), 3):
        described(body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :])


def test_a_zip_that_is_cut_off_is_truncated() -> None:
    body = zip_file()
    for length in (4, 100, len(body) // 2, len(body) - 30, len(body) - 1):
        assert codes(described(body[:length])) == ["FM107"], length


def test_a_legacy_file_that_is_cut_off_is_truncated() -> None:
    body = legacy_file()
    for length in (40, len(body) // 2, len(body) - 20, len(body) - 1):
        description = described(body[:length])
        assert (description.container, codes(description)) == ("legacy", ["FM107"]), length


def test_bytes_after_the_last_legacy_storage_are_ambiguous() -> None:
    assert codes(described(legacy_file() + b"x")) == ["FM109"]


def test_a_legacy_storage_that_nothing_names_is_refused() -> None:
    body = builders.legacy(builders.pickled(builders.ordered_dict()), {"0": bytes(16)})
    assert codes(described(body)) == ["FM108"]


def test_a_checksum_that_does_not_match_is_told() -> None:
    body = bytearray(zip_file())
    at = body.index(b"weight")
    body[at : at + 6] = b"wEight"
    assert codes(described(bytes(body))) == ["FM111"]


def test_big_endian_files_are_refused() -> None:
    pickle = builders.pickled(builders.ordered_dict((builders.text("w"), builders.tensor("0", (4,)))))
    system = builders.dict_of((builders.text("protocol_version"), builders.integer(1001)), (builders.text("little_endian"), b"\x89"))
    assert codes(described(builders.legacy(pickle, {"0": bytes(16)}, system=system))) == ["FM114"]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (("data.pkl", pickle), ("byteorder", b"big"), ("data/0", bytes(16)), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", data)
    assert codes(described(out.getvalue())) == ["FM114"]


def test_a_storage_that_is_missing_is_told_with_its_key() -> None:
    description = described(builders.archive(builders.pickled(builders.ordered_dict((builders.text("w"), builders.tensor("7", (4,))))), {}))
    assert [(problem.code, problem.where) for problem in description.problems] == [("FM107", "storage 7")]


def test_a_pickle_beyond_the_limit_is_too_large() -> None:
    assert codes(described(zip_file(), ParseLimits(pickle_bytes=100))) == ["FM110"]
    long = builders.legacy(builders.pickled(builders.ordered_dict() + builders.text("x" * 300_000) + b"0"), {})
    assert codes(described(long, ParseLimits(pickle_bytes=100_000))) == ["FM110"]


def test_more_tensors_than_the_limit_are_too_many() -> None:
    assert codes(described(zip_file(), ParseLimits(tensors=1))) == ["FM110"]


def test_a_description_beyond_the_limit_is_a_short_one() -> None:
    shapes = {f"layer.{i}": (1,) for i in range(200)}
    description = described(builders.state_dict(shapes), ParseLimits(description_bytes=4000))
    assert codes(description) == ["FM208"]
    assert (description.groups, description.tensors) == ((), ())
    assert description.globals


def test_a_description_whose_code_is_too_long_as_well_is_shorter_still_and_refused() -> None:
    calls = b"".join(builders.call(f"m{i}.x", builders.text("y" * 300)) + b"0" for i in range(50))
    body = builders.archive(builders.pickled(calls + builders.dict_of()), {})
    assert len(described(body).calls) == 50
    short = described(body, ParseLimits(description_bytes=4000))
    assert (codes(short), short.globals, short.calls) == (["FM208"], (), ())
