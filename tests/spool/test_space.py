from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from fifomark.spool.space import Space

GIB = 1 << 30


def disk(monkeypatch: pytest.MonkeyPatch, size: int, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_frsize=4096, f_blocks=size // 4096, f_bavail=free // 4096))


def test_work_goes_on_only_once_there_is_a_quarter_more_than_has_to_stay_free(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space("/", 100 << 20)
    seen = []
    for free in (101, 99, 110, 124, 126, 101, 99):
        disk(monkeypatch, GIB, free << 20)
        seen.append(space.is_short())
    assert seen == [False, True, True, True, False, False, True]


@pytest.mark.parametrize(("size", "kept"), [(1000 * GIB, GIB), (2 * GIB, GIB // 10), (64 << 20, (64 << 20) // 20)])
def test_where_nothing_is_said_a_gibibyte_stays_free_or_a_twentieth(monkeypatch: pytest.MonkeyPatch, size: int, kept: int) -> None:
    disk(monkeypatch, size, kept - 8192)
    assert Space("/", None).is_short()
    disk(monkeypatch, size, kept + 8192)
    assert not Space("/", None).is_short()
