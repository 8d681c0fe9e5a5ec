from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fifomark.core.errors import SpoolError
from fifomark.daemon.new import make_spool
from fifomark.spool.layout import Layout
from fifomark.spool.secret import pseudonym_key


def test_a_new_spool_has_a_key_that_only_its_owner_may_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_spool(tmp_path / "spool")
    finally:
        os.umask(before)
    path = Layout(tmp_path / "spool").pseudonyms
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make_spool(tmp_path / "other")
    assert pseudonym_key(path) != pseudonym_key(Layout(tmp_path / "other").pseudonyms)


def test_a_key_is_made_once_and_never_replaced(tmp_path: Path) -> None:
    key = pseudonym_key(tmp_path / "key")
    assert len(key) == 32
    assert pseudonym_key(tmp_path / "key") == key
    make_spool(tmp_path / "spool")
    key = pseudonym_key(Layout(tmp_path / "spool").pseudonyms)
    make_spool(tmp_path / "spool")
    assert pseudonym_key(Layout(tmp_path / "spool").pseudonyms) == key
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_who_makes_a_key_at_the_same_time_takes_the_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = pseudonym_key(tmp_path / "key")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    assert pseudonym_key(tmp_path / "key") == key


@pytest.mark.parametrize("body", [b"", b"00", b"\xff" * 64, b"z" * 64])
def test_what_is_no_key_is_named_and_not_replaced(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "key").write_bytes(body)
    with pytest.raises(SpoolError, match="is no key"):
        pseudonym_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == body


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(SpoolError, match="cannot be read"):
        pseudonym_key(tmp_path / "key")
