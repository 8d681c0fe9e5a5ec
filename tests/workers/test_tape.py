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
def pool(preload: str | None) -> Iterator[LocalPool]:
    made = LocalPool(talk, [CPU], preload=preload, keep_output=True)
    yield made
    made.close()


@pytest.fixture
def one_by_one(preload: str | None) -> Iterator[LocalPool]:
    made = LocalPool(talk, [CPU], preload=preload, keep_output=True, one_by_one=True)
    yield made
    made.close()


def all_of(pool: LocalPool, *paths: str) -> dict[int, str]:
    """What was said of each, by its number."""
    tickets = [MarkTicket(submission=id, path=path, rubric="r", rubric_sha256="0") for id, path in enumerate(paths)]
    pool.start(tickets, CPU, Bounds(60), time.time())
    time.sleep(0.2)  # so that several have ended when we look
    found: dict[int, str] = {}
    while len(found) < len(paths):
        wait(pool.waitables(), timeout=0.1)
        found |= {one.submission: one.said for one in pool.collect(time.time())}
    return found


def ended(pool: LocalPool, path: str) -> Ended:
    pool.start([MarkTicket(submission=1, path=path, rubric="r", rubric_sha256="0")], CPU, Bounds(60), time.time())
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
    assert tape.take(1) == ""
    os.write(tape.writer.fileno(), b"\xff\x00\ttab\r\nend")
    assert tape.take(1) == "\\xff\\x00    tab\nend\n"
    os.write(tape.writer.fileno(), b"more")
    assert tape.take(1) == "more\n"


def test_of_several_that_lie_ready_each_has_its_own_words(one_by_one: LocalPool) -> None:
    lines = f"{'x' * 99} 3000"
    said = all_of(one_by_one, "first 2", "silent 0", lines, "third 1", "dying 1", "never 1")
    assert said == {0: "first\n" * 2, 1: "", 2: said[2], 3: "third\n", 4: "dying\nlast words\n", 5: ""}
    assert said[2].count("x" * 99) == (HEAD + TAIL) // 100 - 1
    assert f"… {3000 * 100 - HEAD - TAIL} bytes …" in said[2]


def test_words_that_look_like_a_mark_are_words(one_by_one: LocalPool) -> None:
    forged = "\x1e" + "0" * 32 + "0" * 19 + "1\x1e"
    said = all_of(one_by_one, f"{forged} 1", "second\x1e 1", "third 1")
    assert said == {0: f"\n{forged[1:-1]}\n\n", 1: "second\n\n", 2: "third\n"}  # it ends a line


def test_a_mark_that_is_read_in_two_pieces_is_a_mark() -> None:
    tape = Tape()
    mark = b"\x1e" + tape.secret.encode() + b"%020d" % 7 + b"\x1e"
    for byte in b"before\n" + mark + b"after\n":
        os.write(tape.writer.fileno(), bytes([byte]))
        tape.roll()
    assert tape.take(6) == ""
    assert tape.take(7) == "before\nafter\n"
