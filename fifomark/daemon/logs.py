"""What the daemon says on stderr: lines of text or of JSON, with a priority in front where the journal reads them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

import msgspec

from fifomark.core.clock import utc
from fifomark.core.text import shown
from fifomark.settings import LogFormat

_ROOT = logging.getLogger("fifomark")
_MAX_LINE = 4000


class _Stderr(logging.StreamHandler[TextIO]):
    """Wherever stderr leads at the moment. That a message cannot be written (a full disk, a closed terminal) stops nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Text(logging.Formatter):
    """TIME LEVEL MESSAGE; the journal gets <N>MESSAGE and has the time itself (sd-daemon(3))."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        start = f"<{_priority(record)}>" if self._journal else f"{utc(record.created):%Y-%m-%dT%H:%M:%SZ} {record.levelname:7} "
        return "\n".join(start + line for line in _lines(self, record))


class _Json(logging.Formatter):
    """One object a line: time, level, message, and the fields that came with it."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, object] = getattr(record, "fields", {})
        said = {"time": utc(record.created), "level": record.levelname.lower(), "message": "\n".join(_lines(self, record)), **fields}
        return (f"<{_priority(record)}>" if self._journal else "") + msgspec.json.encode(said).decode()


@contextlib.contextmanager
def logging_to_stderr(format: LogFormat, level: int) -> Iterator[_Stderr]:
    """Within it, what fifomark's loggers say from `level` on goes to stderr; `log_as` changes the form later."""
    handler = _Stderr(sys.stderr)
    log_as(handler, format)
    before = _ROOT.level
    _ROOT.addHandler(handler)
    _ROOT.setLevel(level)
    try:
        yield handler
    finally:
        _ROOT.removeHandler(handler)
        _ROOT.setLevel(before)


def log_as(handler: logging.Handler, format: LogFormat) -> None:
    handler.setFormatter((_Json if format is LogFormat.JSON else _Text)(_is_journal()))


def _is_journal() -> bool:
    """Whether stderr leads to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        seen = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


def _priority(record: logging.LogRecord) -> int:
    """As in syslog(3): 3 error, 4 warning, 6 info, 7 debug."""
    for level, priority in ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if record.levelno >= level:
            return priority
    return 7


def _lines(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The message, which strangers' words may stand in, on one line; then a traceback, if there is one."""
    trace = formatter.formatException(record.exc_info) if record.exc_info else ""
    return [shown(record.getMessage(), _MAX_LINE), *(shown(line, _MAX_LINE) for line in trace.splitlines())]
