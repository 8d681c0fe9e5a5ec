"""hold, release, withdraw, retry, pause and resume at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import builders
import pytest

from fifomark.cli.main import main


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIFOMARK_SPOOL", str(tmp_path / "spool"))
    assert main(["init", str(tmp_path / "spool")]) == 0
    return tmp_path / "spool"


def test_a_pause_is_said_by_everyone_until_the_spool_goes_on(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    assert main(["pause"]) == 0
    assert main(["drain"]) == 0
    assert "nothing new was started" in capsys.readouterr().err
    assert main(["status"]) == 0
    assert "paused by the operator" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["paused"], seen["states"]["queued"]) == ("by the operator", 1)
    assert main(["resume"]) == 0
    assert capsys.readouterr().out == "goes on\n"
    assert main(["hold", "1"]) == 0
    assert capsys.readouterr().out == "00000001 ada.pt: held\n"
    assert main(["drain"]) == 0
    assert "1 held: fifomark status says why" in capsys.readouterr().err
    assert main(["release", "--json", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": 1, "done": True, "message": "ada.pt: waits again"}


def test_what_cannot_be_done_is_an_answer_of_no(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retry", "7"]) == 1
    assert capsys.readouterr().err == "00000007 no submission has this id\n"


@pytest.mark.parametrize("arguments", [["hold"], ["hold", "ada"], ["pause", "1"]])
def test_wrong_usage_is_told(spool: Path, arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_where_there_is_no_spool_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause", "--spool", str(tmp_path)]) == 2
    assert "no spool here" in capsys.readouterr().err
