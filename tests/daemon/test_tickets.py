"""What workers are told of a submission besides where it lies."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from daemon_bench import Bench, inspection
from msgspec.structs import replace

from fifomark.core.errors import ConfigError
from fifomark.core.inspection import CleanFile, Inspection
from fifomark.core.layers import Layer
from fifomark.core.outcome import MarkTicket, Outcome, Sanitized, SanitizeTicket
from fifomark.daemon.rubrics import load_rubrics
from fifomark.daemon.tickets import mark_ticket, sanitize_ticket
from fifomark.workers.pool import Bounds

LAYERS = (Layer(path="", cls="torch.nn.modules.linear.Linear", attributes={"in_features": 64, "out_features": 10}),)


def seen(path: str = "x.pt") -> Inspection:
    plain = inspection(path, (), CleanFile(size=5, sha256="0" * 64))
    return replace(plain, form="module", layers=LAYERS)


@pytest.fixture
def told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[MarkTicket | SanitizeTicket]:
    """The tickets of a daemon whose files are pickled modules, all of them as workers read them."""
    tickets: list[MarkTicket | SanitizeTicket] = []
    judge = bench.judge

    def judging(ticket: MarkTicket | SanitizeTicket) -> Outcome:
        tickets.append(msgspec.json.decode(msgspec.json.encode(ticket), type=type(ticket)))
        outcome = judge(ticket)
        return Sanitized(inspection=seen(ticket.path)) if isinstance(outcome, Sanitized) else outcome

    for pool in (bench.sanitizers, bench.slots):
        monkeypatch.setattr(pool, "_judge", judging)
    return tickets


def say(root: Path, old: str, new: str) -> None:
    rubric = root / "rubrics/digits/rubric.toml"
    assert old in rubric.read_text()
    rubric.write_text(rubric.read_text().replace(old, new))


def test_the_form_and_the_layers_go_to_the_worker_where_the_rubric_builds_trees(bench: Bench, told: list[MarkTicket]) -> None:
    say(bench.root, "[model]", "[model]\ntrees = true")
    bench.drop("ada.pt")
    bench.drain()
    assert [(ticket.form, ticket.layers) for ticket in told if isinstance(ticket, MarkTicket)] == [("module", LAYERS)]


def test_layers_that_nobody_builds_stay_behind(bench: Bench, told: list[MarkTicket]) -> None:
    bench.drop("ada.pt")
    bench.drain()
    assert [(ticket.form, ticket.layers) for ticket in told if isinstance(ticket, MarkTicket)] == [("module", ())]


def test_plugins_of_the_settings_and_of_the_rubric_are_named_to_both_workers(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.tick()
    (submission,) = bench.ledger.unfinished()
    spool = bench.spool
    spool.settings = replace(spool.settings, plugins=("kan", "rbf", "mlp"))
    rubric, sha256 = load_rubrics(Bench(bench.root.parent / "other").spool)["digits"]
    rubric = replace(rubric, model=replace(rubric.model, families=("mlp", "snn", "rbf")))
    assert sanitize_ticket(spool, submission, rubric).families == ("kan", "rbf", "snn")
    assert sanitize_ticket(spool, submission, None).families == ("kan", "rbf")
    assert mark_ticket(spool, submission, rubric, sha256, None, Bounds(60.0)).families == ("kan", "rbf", "snn")


def test_a_plugin_of_the_settings_that_is_not_installed_stops_the_start(bench: Bench) -> None:
    bench.spool.settings = replace(bench.spool.settings, plugins=("rbf",))
    with pytest.raises(ConfigError, match=r"fifomark\.toml: plugins: no plugin of fifomark\.families is called 'rbf'"):
        load_rubrics(bench.spool)


def test_what_an_older_ledger_keeps_of_an_inspection_is_read(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.tick()
    (submission,) = bench.ledger.unfinished()
    kept = msgspec.to_builtins(seen())
    del kept["layers"]
    rubric, sha256 = load_rubrics(bench.spool)["digits"]
    ticket = mark_ticket(bench.spool, submission, rubric, sha256, msgspec.json.encode(kept), Bounds(60.0))
    assert (ticket.form, ticket.layers) == ("module", ())


@pytest.mark.parametrize("allowed", [True, False])
def test_torchscript_goes_to_the_worker_as_it_came_only_where_the_rubric_lets_it_run(bench: Bench, allowed: bool) -> None:
    if allowed:
        say(bench.root, "[model]", "[model]\ntorchscript = true")
    rubric, sha256 = load_rubrics(bench.spool)["digits"]
    bench.drop("ada.pt")
    bench.tick()
    submission = bench.ledger.get(1)
    for form in ("torchscript", "state_dict"):
        kept = replace(seen(), form=form, sha256="2" * 64)
        ticket = mark_ticket(bench.spool, submission, rubric, sha256, msgspec.json.encode(kept), Bounds(60.0, 1 << 30))
        if not allowed or form != "torchscript":
            assert ticket.original is None
            continue
        assert ticket.original is not None
        assert ticket.original.path == bench.spool.layout.original(submission)
        assert (ticket.original.sha256, ticket.original.seconds, ticket.original.memory_bytes) == ("2" * 64, 60.0, 1 << 30)
    assert sanitize_ticket(bench.spool, submission, rubric).policy.torchscript is allowed
