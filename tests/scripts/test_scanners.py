"""The comparison with other scanners, without them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scanning import asking

# A tool that leaves something where it runs, as fickling does, and says where that is.
LITTERING = """
import json, os, sys
for line in sys.stdin:
    open("safety_results.json", "w").close()
    print(json.dumps({"stops": False, "why": os.getcwd(), "seconds": 0.0}), flush=True)
"""


def test_a_tool_leaves_nothing_where_the_comparison_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "leavings"):
        (tmp_path / name).mkdir()
    (tmp_path / "probe.py").write_text(LITTERING)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(asking, "PROBE", tmp_path / "probe.py")
    probe = asking.Probe("littering", Path(sys.executable), 60, tmp_path / "leavings")
    try:
        assert probe.ask(tmp_path / "a.pt")["why"] == str(tmp_path / "leavings")
    finally:
        probe.close()
    assert list((tmp_path / "here").iterdir()) == []
