from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fifomark.core.catalogue import RULES, find
from fifomark.core.errors import UnsafeModel
from fifomark.core.findings import Level, Verdict, verdict_of
from fifomark.core.report import json_schema
from fifomark.core.states import FINAL, MOVES, State
from fifomark.core.text import shown

DOCS = Path(__file__).parents[2] / "docs"


def test_every_state_has_its_moves_and_final_ones_lead_back_at_most_to_the_queue() -> None:
    assert set(MOVES) == set(State)
    assert all(MOVES[state] <= {State.QUEUED} for state in FINAL)
    assert all(MOVES[state] for state in set(State) - FINAL)


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [([], "clean"), (["FM501"], "clean"), (["FM203", "FM501"], "flagged"), (["FM203", "FM401"], "invalid"), (["FM401", "FM201"], "unsafe")],
)
def test_the_highest_level_decides_the_verdict(codes: list[str], verdict: str) -> None:
    assert verdict_of(find(code, "x", "y") for code in codes) == Verdict(verdict)


def test_every_rule_has_a_title_and_an_advice_that_ends_as_a_sentence() -> None:
    for code, rule in RULES.items():
        assert re.fullmatch(r"FM[1-7]\d\d", code)
        assert rule.title
        assert rule.advice.endswith("."), code


def test_text_of_strangers_is_shown_on_one_printable_line() -> None:
    assert shown("a\nb\x1b[31m\udcff") == r"a\nb\x1b[31m\udcff"
    assert len(shown("x" * 10_000)) == 200


def test_a_refusal_says_the_worst_first() -> None:
    error = UnsafeModel("a.pt", [find("FM501", "x", "note"), find("FM201", "data.pkl", "would call posix.system")])
    assert "would call posix.system" in str(error)
    assert error.findings[0].level is Level.NOTE


def test_the_published_schema_is_that_of_the_code() -> None:
    """Where it is not: scripts/schema writes it anew."""
    assert json.loads((DOCS / "report.schema.json").read_text()) == json.loads(json.dumps(json_schema()))
