"""Starting the writer's process. Few modules are needed for that, so that a command may do it first and get ready itself meanwhile."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
from typing import NamedTuple

from fifomark.core.errors import InternalError

# With -I and -S, neither the working folder, nor PYTHONPATH, nor site-packages bring a module into the writer. What it needs it takes from
# where we have it from, in the order in which we look there: another fifomark that is installed beside ours is not ours. The parser is
# forked before that, while there is only the standard library and, last, our own folder. Nothing that is imported is ever garbage. What
# msgspec looks for in typing_extensions it finds in typing as well, since Python 3.11, and sooner.
PROGRAM = """
import gc, sys
gc.disable()
sys.path.append({root!r})
from fifomark.sanitizer import parser_server
forked = parser_server.fork({fd}, sandbox={sandbox!r})
sys.path[-1:] = {homes!r}
sys.modules["typing_extensions"] = None
from fifomark.sanitizer import writer_server
writer_server.main({fd}, sandbox={sandbox!r}, forked=forked)
"""
SANDBOX = "auto"
_NEEDED = ("fifomark", "msgspec", "numpy", "ml_dtypes")
# One thread: the sandbox binds the one that enters it, and what it starts.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Pieces of a megabyte are read all the time: glibc is to keep that memory, not to give it back and have it cleared anew for each piece.
_MEMORY_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
_ENVIRONMENT = {**_ONE_THREAD, **_MEMORY_KEPT}


class Launched(NamedTuple):
    """A writer that has not greeted yet, and the line to it."""

    process: subprocess.Popen[bytes]
    line: socket.socket

    def end(self) -> None:
        """At once."""
        self.line.close()
        self.process.kill()
        self.process.communicate()


_ahead: list[Launched] = []


def launch_ahead() -> None:
    """Start a writer before anybody has asked for one: the first that is launched as usual is this one. What goes wrong is said then."""
    with contextlib.suppress(InternalError):
        _ahead.append(_started(PROGRAM, SANDBOX))


def end_ahead() -> None:
    """End it where nobody wanted it."""
    while _ahead:
        _ahead.pop().end()


def launch(program: str, sandbox: str) -> Launched:
    """A writer, on its way. `program` is Python, formatted with the folder that holds fifomark as `root`, all folders to import from as
    `homes`, the writer's socket as `fd`, and `sandbox`. InternalError where it cannot be started."""
    return _ahead.pop() if _ahead and (program, sandbox) == (PROGRAM, SANDBOX) else _started(program, sandbox)


def _started(program: str, sandbox: str) -> Launched:
    homes = _homes()
    ours, theirs = socket.socketpair()
    null, environment = subprocess.DEVNULL, {**os.environ, **_ENVIRONMENT}
    command = [sys.executable, "-I", "-S", "-c", program.format(root=_home("fifomark"), homes=homes, fd=theirs.fileno(), sandbox=sandbox)]
    with theirs:
        try:
            return Launched(
                subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=null, stdout=null, stderr=subprocess.PIPE, cwd="/", env=environment
                ),
                ours,
            )
        except OSError as e:
            ours.close()
            raise InternalError(f"the writer cannot be started: {e}") from e


def _homes() -> list[str]:
    """The folders that hold the packages which the writer needs, ordered so that it finds each where we do. Nothing is imported here."""
    homes = set(map(_home, _NEEDED))
    ours = [os.path.abspath(folder) for folder in sys.path]
    # What no folder of ours holds, an import hook has found (an editable install), after all of them.
    return sorted(homes, key=lambda home: ours.index(home) if home in ours else len(ours))


def _home(package: str) -> str:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InternalError(f"the writer cannot be started: there is no package {package}")
    return os.path.dirname(os.path.dirname(os.path.abspath(found.origin)))
