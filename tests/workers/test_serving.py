"""A worker's side of the pipe: tickets in, outcomes out, one each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from fifomark.core.outcome import Failed, MarkTicket, Outcome, Refused
from fifomark.workers.main import _outcomes


def tickets(*paths: str) -> list[MarkTicket]:
    return [MarkTicket(submission=i, path=path, rubric="r", rubric_sha256="0") for i, path in enumerate(paths)]


def all_or_nothing(given: Sequence[MarkTicket]) -> Iterator[Outcome]:
    """Judges as a batch does: what one of them raises costs all of them."""
    for ticket in given:
        if ticket.path == "bad":
            raise OSError("no space left")
    yield from [Refused(findings=())] * len(given)


@pytest.mark.parametrize("paths", [("a",), ("bad",), ("a", "b"), ("bad", "a"), ("a", "bad", "b", "bad")])
def test_what_is_raised_is_the_end_of_one_ticket_only(paths: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = list(_outcomes(all_or_nothing, tickets(*paths)))
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [path == "bad" for path in paths]
    assert capsys.readouterr().err.count("OSError: no space left") == paths.count("bad")
