"""Where things lie in a spool: the only author of path names.

Names that submitters chose are used as they are in incoming/ only. From the claim on a submission is called
`<id>-<name>`, the id in eight digits and the name with everything unprintable replaced and its length bounded.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from fifomark.core.submission import Submission

FOLDERS = ("incoming", "sanitizing", "evaluating", "done", "rejected", "failed", "originals", "logs", "control", "rubrics")
PRIVATE = frozenset({"logs"})  # what models and rubrics print is for the operator
REQUEST = ".request"  # the ending of what the command line asks of the daemon, in control/
MAX_NAME_BYTES = 180  # leaves room for the id and for suffixes below the 255 bytes of a name


class Layout:
    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._root = str(self.root)
        self.ledger = self.root / "ledger.sqlite3"
        self.lock = self.root / "control" / "daemon.lock"
        self.settings = self.root / "fifomark.toml"
        self.pseudonyms = self.root / "pseudonyms.key"

    def folder(self, name: str) -> str:
        return os.path.join(self._root, name)

    def rubric(self, name: str) -> str:
        return os.path.join(self._root, "rubrics", name)

    def rubrics(self) -> tuple[str, ...]:
        """The names of the rubrics that the spool has."""
        return tuple(sorted(path.parent.name for path in Path(self.folder("rubrics")).glob("*/rubric.toml")))

    def has_rubric(self, name: str) -> bool:
        """Whether `name` is one of them."""
        return os.path.exists(os.path.join(self.rubric(name), "rubric.toml"))

    def incoming(self, submission: Submission) -> str:
        return os.path.join(self._root, "incoming", submission.folder, submission.name)

    def claimed(self, submission: Submission) -> str:
        return os.path.join(self._root, "sanitizing", _numbered(submission))

    def unpublished(self, submission: Submission) -> str:
        """The clean file while nobody may rely on it yet: evaluating/.<id>-<name>.pt."""
        return os.path.join(self._root, "evaluating", f".{stem(submission)}.pt")

    def clean(self, submission: Submission) -> str:
        return os.path.join(self._root, "evaluating", f"{stem(submission)}.pt")

    def original(self, submission: Submission) -> str:
        return os.path.join(self._root, "originals", f"{_numbered(submission)}.original")

    def done(self, submission: Submission) -> str:
        return os.path.join(self._root, "done", f"{stem(submission)}.pt")

    def quarantined(self, submission: Submission) -> str:
        return os.path.join(self._root, "rejected", f"{_numbered(submission)}.quarantined")

    def failed(self, submission: Submission) -> str:
        return os.path.join(self._root, "failed", f"{stem(submission)}.pt")

    def failed_original(self, submission: Submission) -> str:
        """Of a submission that could not even be sanitized: never under a name that looks like a clean file."""
        return os.path.join(self._root, "failed", f"{_numbered(submission)}.original")

    def submitted(self, submission: Submission) -> tuple[str, ...]:
        """Where what was submitted may lie once the submission has ended."""
        return self.quarantined(submission), self.original(submission), self.failed_original(submission)

    def log(self, submission: Submission) -> str:
        """What was said on stdout and stderr while it was worked on."""
        return os.path.join(self._root, "logs", f"{_numbered(submission)}.log")

    def report(self, submission: Submission) -> str:
        return os.path.join(self._root, submission.state, f"{stem(submission)}.json")

    def earlier_report(self, submission: Submission, attempt: int) -> str:
        """That of an attempt that was followed by another."""
        return os.path.join(self._root, "originals", f"{stem(submission)}.attempt-{attempt}.json")


def stem(submission: Submission) -> str:
    """`<id>-<name without its extension>`: what the clean file and the report are called."""
    return os.path.splitext(_numbered(submission))[0]


def _numbered(submission: Submission) -> str:
    return f"{submission.id:08d}-{safe_name(submission.name)}"


@lru_cache(maxsize=4096)
def safe_name(name: str) -> str:
    """`name` fit for a folder that others list: printable, valid UTF-8, bounded, its extension kept."""
    printable = "".join(c if c.isprintable() and c != "/" else "_" for c in name)
    base, extension = os.path.splitext(printable)
    extension = extension if len(extension.encode()) <= 20 else ""
    room = MAX_NAME_BYTES - len(extension.encode())
    return base.encode()[:room].decode(errors="ignore") + extension
