"""Where clean files go: every byte where it belongs, and the hash that of the file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from fifomark.torchfile import output
from fifomark.torchfile.output import Output


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("test")
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


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
