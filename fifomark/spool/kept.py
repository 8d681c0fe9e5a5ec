"""The files that a submission leaves behind once it has ended, and taking them away."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import subprocess
from collections.abc import Iterable

from fifomark.core.keeping import Pruned
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.spool.layout import Layout

_log = logging.getLogger(__name__)
_FOLDERS = ("done", "rejected", "failed", "originals", "logs")


def files(layout: Layout, submission: Submission, stage: Pruned) -> list[str]:
    """Where everything up to `stage` lies, if it is there."""
    found: list[str] = []
    if stage >= Pruned.SUBMITTED:
        found += [*layout.submitted(submission), layout.log(submission)]
    if stage >= Pruned.FILES:
        found += [layout.done(submission), layout.failed(submission)]
    if stage >= Pruned.REPORT:
        found += [layout.report(submission), *(layout.earlier_report(submission, n) for n in range(1, submission.attempt))]
    return found


def size(paths: Iterable[str]) -> int:
    """Bytes of those that are there."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += os.lstat(path).st_size
    return total


def total(layout: Layout) -> int:
    """Bytes of all that submissions have left behind."""
    found = 0
    for folder in _FOLDERS:
        with os.scandir(layout.folder(folder)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found += entry.stat(follow_symlinks=False).st_size
    return found


def remove(layout: Layout, submission: Submission) -> set[str]:
    """Take away what is no longer kept of it; returns the folders that have to be synced. What cannot be removed is told, and then a stray
    file for fsck: it must not keep the daemon from starting."""
    touched: set[str] = set()
    for path in files(layout, submission, submission.pruned):
        try:
            _remove(path)
        except FileNotFoundError:
            continue
        except OSError as e:
            _log.error("%s cannot be removed: %s; remove it yourself", shown(path, 1000), e.strerror)
        touched.add(os.path.dirname(path))
    return touched


def _remove(path: str) -> None:
    """A folder, too: someone may have submitted one, as deep as they liked. rm(1) goes down without recursion, which Python does not."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif (done := subprocess.run(["rm", "-rf", "--one-file-system", "--", path], capture_output=True, text=True)).returncode:
        raise OSError(errno.EIO, shown(done.stderr.strip(), 300))


def append_log(path: str, said: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as log:
        log.write(said)
