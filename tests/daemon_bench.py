"""A daemon for tests: real folders, a real ledger, and judges that the test decides."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding, verdict_of
from fifomark.core.inspection import CleanFile, Inspection
from fifomark.core.outcome import Cost, Evaluation, Marked, MarkTicket, Metric, Outcome, Sanitized, SanitizeTicket
from fifomark.daemon.daemon import Daemon
from fifomark.daemon.new import make_spool
from fifomark.daemon.rubrics import load_rubrics
from fifomark.ledger.ledger import Ledger
from fifomark.spool.spool import Spool
from fifomark.workers.inline import InlinePool
from fifomark.workers.slots import Slot

Verdicts = Callable[[SanitizeTicket | MarkTicket], Outcome]


class Bench:
    """A daemon on a real spool and a real ledger, with judges that the test decides."""

    def __init__(self, root: Path, slots: int = 1, *, lenient: bool = False) -> None:
        make_spool(root)
        settings = root / "fifomark.toml"
        settings.write_text(settings.read_text().replace("settle_seconds = 0.2", "settle_seconds = 0.0"))
        self.root = root
        self.now = 4_000_000_000.0
        self.bad: dict[str, Finding] = {}  # by file name: what the sanitizer finds
        self.outcomes: dict[str, Outcome] = {}  # by file name: how marking ends, other than well
        self.seen: list[str] = []
        self._lenient = lenient
        self._slots = [Slot(name=f"cpu:{i}", device="cpu", visible="") for i in range(slots)]
        self.start()

    def start(self) -> None:
        self.spool = Spool(self.root)
        self.ledger = Ledger(self.spool.layout.ledger)
        self.sanitizers = InlinePool(self.judge, [Slot(name="sanitizer:0", device="cpu", visible="")])
        self.slots = InlinePool(self.judge, self._slots)
        rubrics = load_rubrics(self.spool)
        self.daemon = Daemon(self.spool, self.ledger, rubrics, self.sanitizers, self.slots, lenient=self._lenient)

    def restart(self) -> None:
        """As after a crash: whatever was in memory is gone."""
        self.ledger.close()
        self.start()
        self.daemon.recover(self.now)

    def drop(self, name: str, mtime: float = 1000.0, body: bytes = b"model", folder: str = "") -> Path:
        path = self.root / "incoming" / folder / name
        path.write_bytes(body)
        os.utime(path, (mtime, mtime))
        return path

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1
            self.daemon.tick(self.now)

    def drain(self) -> None:
        for _ in range(100):
            self.tick()
            if self.daemon.idle:
                return
        raise AssertionError("the daemon does not come to an end")

    def judge(self, ticket: SanitizeTicket | MarkTicket) -> Outcome:
        name = self.ledger.get(ticket.submission).name
        self.seen.append(f"{type(ticket).__name__} {name}")
        if isinstance(ticket, MarkTicket):
            return self.outcomes.get(name) or Marked(evaluation=replace(EVALUATION, rubric_sha256=ticket.rubric_sha256))
        if name in self.outcomes and name.startswith("lost-in-sanitizing"):
            Path(ticket.clean_path).write_bytes(b"clean, and then it died")
            return self.outcomes[name]
        findings = (self.bad[name],) if name in self.bad else ()
        clean = None
        if not verdict_of(findings).refuses:
            Path(ticket.clean_path).write_bytes(b"clean")
            clean = CleanFile(size=5, sha256="0" * 64)
        return Sanitized(inspection=inspection(ticket.path, findings, clean))

    def settle(self, line: str) -> None:
        """Put a line of settings at the top of the file."""
        settings = self.root / "fifomark.toml"
        settings.write_text(line + "\n" + settings.read_text())

    def places(self, name: str) -> list[str]:
        """Every place in the spool, incoming/ and control/ aside, where something of `name` lies."""
        stem = name.removesuffix(".pt")
        found = [p.relative_to(self.root) for p in self.root.glob("*/*") if stem in p.name]
        return sorted(str(p) for p in found if p.parts[0] not in ("control", "rubrics"))


def inspection(path: str, findings: tuple[Finding, ...], clean: CleanFile | None) -> Inspection:
    return Inspection(
        path=path, verdict=verdict_of(findings), container="zip", form="state_dict", family=None, findings=findings, weights=None,
        would_run=(), size=5, sha256="2" * 64, clean=clean,
    )  # fmt: skip


EVALUATION = Evaluation(
    rubric_sha256="3" * 64,
    dataset_sha256="4" * 64,
    device="cpu",
    metrics=tuple(Metric(id=id, split="all", value=0.9, n=10) for id in ("accuracy", "macro_f1", "parameters")),
    audits=(),
    cost=Cost(forward_seconds=0.1, total_seconds=0.2),
)
UNSAFE = find("FM201", "data.pkl", "loading it would call posix.system")
WRONG_MODEL = find("FM503", "model", "this is cnn; the task asks for mlp")
