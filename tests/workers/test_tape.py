"""What workers say is kept apart from what we say, by head and tail."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

import msgspec
import pytest

from fifomark.core.outcome import Failed, Lost, MarkTicket, Reason
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds, Ended
from fifomark.workers.post import READY
from fifomark.workers.slots import Slot
from fifomark.workers.tape import HEAD, TAIL, Tape

CPU = Slot(name="cpu:0", device="cpu", visible="")


def talk(connection: Connection, slot: Slot) -> None:
    """A worker that says what the ticket's path says, and as often as it says."""
    connection.send_bytes(READY)
    while True:
        ticket = msgspec.json.decode(connection.recv_bytes(), type=MarkTicket)
        what, times = ticket.path.rsplit(" ", 1)
        for _ in range(int(times)):
            print(what)
        if what == "dying":
            print("last words", file=sys.stderr, end="")
            os.abort()
        connection.send_bytes(msgspec.json.encode(Failed(reason=Reason(code="said", message="", blame=None))))


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    made = LocalPool(talk, [CPU], keep_output=True)
    yield made
    made.close()


def ended(pool: LocalPool, path: str) -> Ended:
    pool.start([MarkTicket(submission=1, path=path, rubric="r", rubric_sha256="0")], CPU, Bounds(time.time() + 60))
    while not (found := pool.collect(time.time())):
        wait(pool.waitables(), timeout=0.1)
    return found[0]


def test_what_a_worker_says_comes_with_the_end_of_its_ticket_and_not_to_our_streams(
    pool: LocalPool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ended(pool, "hello \x1b[31m 2").said == "hello \\x1b[31m\n" * 2
    assert ended(pool, "again 1").said == "again\n"
    assert ended(pool, "silent 0").said == ""
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_dies_leaves_its_last_words(pool: LocalPool) -> None:
    end = ended(pool, "dying 1")
    assert isinstance(end.outcome, Lost)
    assert end.said == "dying\nlast words\n"
    assert ended(pool, "the next 1").said == "the next\n"


def test_of_many_words_head_and_tail_are_kept_and_the_rest_is_counted(pool: LocalPool) -> None:
    said = ended(pool, f"{'x' * 99} 50000").said  # five times what a pipe holds: the worker waits for us, and goes on
    middle = next(line for line in said.splitlines() if line.startswith("…"))
    assert middle == f"… {50000 * 100 - HEAD - TAIL} bytes …"
    assert len(said) < HEAD + TAIL + 100
    assert said.endswith("x" * 99 + "\n")


def test_a_tape_never_blocks_and_takes_any_bytes() -> None:
    tape = Tape()
    assert tape.take() == ""
    os.write(tape.writer.fileno(), b"\xff\x00\ttab\r\nend")
    assert tape.take() == "\\xff\\x00    tab\nend\n"
    os.write(tape.writer.fileno(), b"more")
    assert tape.take() == "more\n"
