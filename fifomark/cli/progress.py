"""Progress on stderr: a bar on a terminal, nothing in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

    from fifomark.daemon.daemon import Daemon

T = TypeVar("T")


def progress() -> Progress:
    """A progress display that goes away when it is done, and says nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class Bar(Progress):
        """Whose terminal may be gone at any time: what it shows is not what the work depends on."""

        def refresh(self) -> None:
            with contextlib.suppress(OSError):
                super().refresh()

        def stop(self) -> None:
            with contextlib.suppress(OSError):
                super().stop()

    console = Console(stderr=True)
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        redirect_stdout=False,  # results are for stdout, whoever reads it
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def pulsing(what: str) -> Iterator[None]:
    """Says that something goes on whose length nobody knows."""
    with progress() as bar:
        bar.add_task(what, total=None)
        yield


@contextlib.contextmanager
def queue_bar() -> Iterator[Callable[[Daemon], None]]:
    """A bar of the submissions that this run has ended, out of all that it has seen."""
    from fifomark.core.states import FINAL, State

    with progress() as bar:
        task = bar.add_task("marking", total=None)
        before: int | None = None

        def on_turn(daemon: Daemon) -> None:
            nonlocal before
            counts = daemon.ledger.counts()
            ended = sum(counts[state] for state in FINAL)
            waiting = sum(counts[state] for state in State if state not in FINAL and state is not State.HELD)
            before = ended if before is None else before
            bar.update(task, completed=ended - before, total=ended - before + waiting)

        yield on_turn


def counted(what: str, items: Iterable[T], total: int, *, patience: float = 1.0) -> Iterator[T]:
    """`items` as they come, with a bar of how many came out of `total` once they take longer than `patience` seconds."""
    started = monotonic()
    with contextlib.ExitStack() as stack:
        bar: Progress | None = None
        for done, item in enumerate(items, 1):
            if bar is None and monotonic() - started > patience and sys.stderr.isatty():
                bar = stack.enter_context(progress())
                bar.add_task(what, total=total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
            yield item
