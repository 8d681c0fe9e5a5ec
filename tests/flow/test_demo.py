"""The main job, end to end: the demo's spool, once for all tests of this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fifomark.demo import BROKEN, FILES, TRAINED

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
FINAL = ("done", "rejected", "failed")
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text())


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "spool"
    done = subprocess.run([FIFOMARK, "demo", str(folder)], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "did not run" in done.stdout
    return folder


def reports(spool: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_bytes()) for state in FINAL for path in (spool / state).glob("*.json")]
    return {report["submission"]["name"]: report for report in found}


def test_every_file_ends_in_exactly_one_final_folder_with_its_report(spool: Path) -> None:
    for name in FILES:
        stem = name.removesuffix(".pt")
        places = [path for state in FINAL for path in (spool / state).glob(f"*-{stem}.*")]
        if name.endswith(".part"):
            assert places == []
            assert (spool / "incoming" / name).exists()
        else:
            assert len({path.parent for path in places}) == 1, name
            assert [path.suffix for path in places].count(".json") == 1
            assert len(places) == 2


def test_every_report_is_valid_by_the_published_schema(spool: Path) -> None:
    found = reports(spool)
    assert len(found) == len(FILES) - 1
    for report in found.values():
        jsonschema.validate(report, SCHEMA)


def test_the_good_are_marked_and_the_bad_are_refused_for_what_they_are(spool: Path) -> None:
    found = reports(spool)
    assert {name: found[name]["state"] for name in TRAINED} == dict.fromkeys(TRAINED, "done")
    assert [found[name]["model"]["family"] for name in TRAINED] == ["logistic", "mlp", "cnn", "rnn", "transformer", "cnn"]
    codes = {name: {f["code"] for f in found[name]["findings"]} for name in BROKEN if name in found}
    assert "FM401" in codes["grace__diverged.pt"]
    assert "FM505" in codes["henri__other_task.pt"]
    assert "FM106" in codes["iris__renamed.pt"]
    assert "FM107" in codes["john__truncated.pt"]
    assert "FM201" in codes["mallory__surprise.pt"]
    assert "posix.system" in found["mallory__surprise.pt"]["would_run"][0]


def test_they_were_taken_in_the_order_in_which_they_were_dropped(spool: Path) -> None:
    found = reports(spool)
    order = [name for name in FILES if name in found]
    assert [found[name]["id"] for name in order] == list(range(1, len(order) + 1))


def test_the_same_network_gets_the_same_mark_from_a_checkpoint_and_from_torchscript(spool: Path) -> None:
    found = reports(spool)
    cnn, script = found["charles__cnn.pt"], found["frances__cnn_script.pt"]
    assert cnn["evaluation"]["metrics"] == script["evaluation"]["metrics"]
    assert cnn["clean"]["sha256"] == script["clean"]["sha256"]


def test_status_and_the_leaderboard_agree_with_the_reports(spool: Path) -> None:
    def said(*arguments: str) -> dict[str, Any]:
        out = subprocess.run([FIFOMARK, *arguments, "--spool", str(spool)], capture_output=True, check=True).stdout
        answer: dict[str, Any] = json.loads(out)
        return answer

    status = said("status", "--json")
    assert (status["states"]["done"], status["states"]["rejected"], status["daemon"]) == (6, 5, None)
    assert status["uploads"] == ["niels__upload.pt.part"]
    rows = said("leaderboard", "--format", "json")["rows"]
    assert {row["owner"] for row in rows} == {name.split("__")[0] for name in TRAINED}
    accuracies = [row["metrics"]["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)


def test_what_was_submitted_is_kept_as_it_came(spool: Path) -> None:
    assert {path.name.split("-", 1)[1] for path in (spool / "originals").iterdir()} == {f"{name}.original" for name in TRAINED}
    assert os.listdir(spool / "sanitizing") == os.listdir(spool / "evaluating") == []
