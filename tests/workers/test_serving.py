"""A worker's side of the pipe: tickets in, outcomes out, one each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path

import builders
import msgspec
import pytest

from fifomark.core.outcome import Failed, MarkTicket, Outcome, Refused, Sanitized, SanitizeTicket
from fifomark.core.policy import Isolation, Limits, Policy
from fifomark.workers.main import _outcomes, serve_sanitizing
from fifomark.workers.post import READY
from fifomark.workers.slots import Slot


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


def sanitized(tickets: Sequence[SanitizeTicket], isolation: Isolation) -> list[Outcome]:
    """What a worker says of files that lie ready when it starts."""
    ours, theirs = Pipe()
    for ticket in tickets:
        ours.send_bytes(msgspec.json.encode(ticket))

    def serve() -> None:
        with contextlib.suppress(EOFError):
            serve_sanitizing("auto", isolation, theirs, Slot(name="s", device="cpu", visible=""))

    serving = threading.Thread(target=serve)
    serving.start()
    assert ours.recv_bytes() == READY
    outcomes = [msgspec.json.decode(ours.recv_bytes(), type=Outcome) for _ in tickets]
    ours.close()
    serving.join()
    theirs.close()
    return outcomes


def ticket(folder: Path, number: int, clean: str = ".", policy: Policy = Policy()) -> SanitizeTicket:  # noqa: B008
    (folder / f"{number}.pt").write_bytes(builders.logistic())
    return SanitizeTicket(
        submission=number,
        path=str(folder / f"{number}.pt"),
        name=f"{number}.pt",
        clean_path=str(folder / clean / f"{number}.clean"),
        policy=policy,
        limits=Limits(),
    )


def test_files_that_wait_together_are_judged_each_by_its_own_policy(tmp_path: Path) -> None:
    some = [ticket(tmp_path, i, policy=Policy(extensions=(of,))) for i, of in enumerate((".pt", ".bin", ".pt"))]
    outcomes = sanitized(some, Isolation.BATCH)
    assert [outcome.inspection.verdict for outcome in outcomes if isinstance(outcome, Sanitized)] == ["clean", "invalid", "clean"]


@pytest.mark.parametrize("isolation", Isolation)
def test_a_clean_file_that_cannot_be_written_is_the_end_of_one_ticket_only(tmp_path: Path, isolation: Isolation) -> None:
    outcomes = sanitized([ticket(tmp_path, i, clean) for i, clean in enumerate((".", "nowhere", "."))], isolation)
    assert [type(outcome) for outcome in outcomes] == [Sanitized, Failed, Sanitized]
    assert isinstance(outcomes[1], Failed)
    assert "No such file or directory" in outcomes[1].reason.message
    assert sorted(path.name for path in tmp_path.glob("*.clean")) == ["0.clean", "2.clean"]
