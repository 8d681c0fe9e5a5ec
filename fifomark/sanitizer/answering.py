"""What the writer does with a request: an inspection of each file, and its clean file."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterable, Iterator, Sequence

from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.inspection import conclude
from fifomark.core.policy import Limits, Policy
from fifomark.core.text import shown
from fifomark.sanitizer.inspecting import OpenFile, Target, inspect
from fifomark.sanitizer.messages import Answer, Item, Request, Trouble, handed
from fifomark.sanitizer.opening import version_of
from fifomark.torchfile.description import Description


def answered(request: Request, fds: Sequence[int], seen: Iterable[Description | Finding]) -> Iterator[Answer]:
    """One answer for each item of the request, of which the parser says what was `seen`, as it comes."""
    for item, (fd, clean), one in zip(request.items, handed(request, fds), seen, strict=True):
        yield _answer(item, fd, Target(clean, request.format) if clean is not None else None, one, request)


def _answer(item: Item, fd: int, target: Target | None, seen: Description | Finding, request: Request) -> Answer:
    file = OpenFile(fd, item.path, item.version, item.findings)
    try:
        return Answer(inspection=inspect(file, seen, request.policy, request.limits, target))
    except OSError as e:
        return Answer(trouble=Trouble(errno=e.errno, message=e.strerror or str(e)))
    except MemoryError:
        exhausting = find("FM208", "the file", "reading it was stopped: it takes more memory than the writer may have")
        return Answer(inspection=conclude(item.path, [*item.findings, exhausting], size=item.version.size))
    except Exception:
        # What is wrong with a file is a value by now; what is raised here is a bug of ours.
        return Answer(trouble=Trouble(errno=None, message=shown(traceback.format_exc(limit=-3), 2000)))


def warm_up(source: int, seen: Description | Finding) -> None:
    """Once the whole way: what is imported on it cannot be imported any more once no path can be opened. `source` is open on an honest
    file, of which the parser says what was `seen`.

    InternalError where this machine does not let us go it.
    """
    shown("\x1b")  # the codec that escapes
    with _memory() as pt, _memory() as safetensors:
        file = OpenFile(source, "warm-up.pt", version_of(os.fstat(source)))
        for target in (Target(pt), Target(safetensors, "safetensors")):
            made = inspect(file, seen, Policy(), Limits(), target)
            if made.clean is None:
                why = "; ".join(f"{found.message} ({found.evidence})" for found in made.findings)
                raise InternalError(
                    f"not even a file of our own can be read here: {why}. Are the limits of this process (ulimit -a) too low?"
                )


@contextlib.contextmanager
def _memory() -> Iterator[int]:
    fd = os.memfd_create("fifomark-warm-up")
    try:
        yield fd
    finally:
        os.close(fd)
