"""Where clean files go: every byte where it belongs, and the hash that of the file."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator

import pytest

from fifomark.torchfile import digest, output
from fifomark.torchfile.digest import Digest
from fifomark.torchfile.output import Output


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("test")
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


@pytest.mark.parametrize("expected", [0, 1 << 30], ids=["at once", "in a thread"])
@pytest.mark.parametrize("buffer", [1, 10, 1 << 20])
def test_what_is_written_piece_by_piece_is_the_file(file: int, monkeypatch: pytest.MonkeyPatch, expected: int, buffer: int) -> None:
    monkeypatch.setattr(output, "_BUFFER", buffer)
    pieces = [bytes([i]) * (i % 7) for i in range(256)]
    out = Output(file, expected)
    for i, piece in enumerate(pieces):
        out.write(memoryview(piece) if i % 2 else piece)
    whole = b"".join(pieces)
    assert out.at == len(whole)
    assert out.close() == (len(whole), hashlib.sha256(whole).hexdigest())
    assert content(file) == whole


def test_what_is_written_out_of_order_lies_where_it_was_put_and_is_hashed_as_it_lies(file: int) -> None:
    out = Output(file, 1 << 30)
    out.write(b"head")
    out.seek(8)
    out.write(b"tail")
    out.seek(4)
    out.write(b"body")
    assert out.close() == (12, hashlib.sha256(b"headbodytail").hexdigest())
    assert content(file) == b"headbodytail"


@pytest.mark.parametrize("expected", [0, 1 << 30], ids=["at once", "in a thread"])
def test_what_is_written_in_any_order_comes_back_as_it_lies_and_is_hashed_on_the_way(
    file: int, monkeypatch: pytest.MonkeyPatch, expected: int
) -> None:
    monkeypatch.setattr(output, "CHUNK", 4)
    out = Output(file, expected)
    out.write(b"head")
    pieces = iter([(6, memoryview(b"789")), (0, memoryview(b"123456"))])
    assert list(out.settled(pieces, 9)) == [b"1234", b"5678", b"9"]
    assert list(out.passing([b"ta", memoryview(b"il")])) == [b"ta", b"il"]
    assert out.close() == (17, hashlib.sha256(b"head123456789tail").hexdigest())
    assert content(file) == b"head123456789tail"


def test_what_was_written_can_be_written_again(file: int) -> None:
    out = Output(file, 0)
    out.write(b"abcdef")
    out.copy(1, 3)
    assert out.close() == (9, hashlib.sha256(b"abcdefbcd").hexdigest())


def test_a_thread_that_hashes_ends_with_its_file_and_when_it_is_abandoned(file: int) -> None:
    before = threading.active_count()
    for end in (Output.close, Output.abandon):
        out = Output(file, 1 << 30)
        out.write(b"x")
        end(out)
    assert threading.active_count() == before


def test_a_hash_of_much_is_that_of_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_AHEAD", 2)
    data = os.urandom(1000)
    hashed = Digest(1 << 30)
    for at in range(0, 1000, 10):
        hashed.update(data[at : at + 10])
    assert hashed.hexdigest() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("expected", [0, 1 << 30], ids=["at once", "in a thread"])
def test_a_digest_that_is_cut_gives_the_hash_of_each_part(expected: int) -> None:
    parts = [[b"one", b"two"], [], [b"three" * 1000]]
    hashed = Digest(expected)
    cut = []
    for part in parts:
        for piece in part:
            hashed.update(piece)
        cut.append(hashed.cut())
    hashed.close()
    assert [one.hexdigest() for one in cut] == [hashlib.sha256(b"".join(part)).hexdigest() for part in parts]


def test_the_disk_is_told_to_begin_with_what_is_written_already(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(output, "_TO_DISK", 100)
    monkeypatch.setattr(output, "_BUFFER", 1)

    def begin(fd: int, start: object, size: object, flags: int) -> None:
        told.append((start.value, size.value))  # type: ignore[attr-defined]
        assert start.value + size.value <= os.fstat(fd).st_size  # type: ignore[attr-defined]

    monkeypatch.setattr(output, "_sync_file_range", begin)
    out = Output(file, 0)
    for _ in range(100):
        out.write(bytes(9))
    out.close()
    ends = [start + size for start, size in told]
    assert [start for start, _ in told] == [0, *ends[:-1]]  # each byte once
    assert 800 < ends[-1] <= 900


def test_a_system_that_cannot_begin_early_writes_all_the_same(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_TO_DISK", 1)
    for missing in (None, lambda *_: -1):
        monkeypatch.setattr(output, "_sync_file_range", missing)
        out = Output(file, 0)
        out.write(b"abc")
        assert out.close() == (3, hashlib.sha256(b"abc").hexdigest())
