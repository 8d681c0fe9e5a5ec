from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fifomark
from fifomark import FIFOModelQueue, FunctionFailed
from fifomark.core.errors import UsageError


def length(path: str) -> int:
    time.sleep(0.2 if path.endswith("slow") else 0.0)
    return len(path)


def visible(path: str) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def picky(path: str) -> str:
    if path == "bad":
        raise ValueError("not this one")
    if path == "fatal":
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def odd(path: str) -> object:
    return {1: float("nan"), "inf": float("inf"), "raw": b"\xff", "pair": (1, 2)}


def dies_afterwards(path: str) -> str:
    threading.Timer(0.2, os._exit, (1,)).start()
    return path


def dies_leaving_a_child(path: str) -> str:
    if os.fork() == 0:
        time.sleep(600)
    os._exit(5)


def unsendable(path: str) -> object:
    return lambda: path


def filled(*paths: str | Path) -> FIFOModelQueue:
    queue = FIFOModelQueue()
    for path in paths:
        queue.enqueue(path)
    return queue


def test_what_goes_in_first_comes_out_first_as_it_went_in() -> None:
    queue = filled("b.pt", Path("a.pt"), "c.pt")
    assert len(queue) == 3
    assert list(queue) == ["b.pt", Path("a.pt"), "c.pt"]
    assert [queue.dequeue(), queue.dequeue(), queue.dequeue()] == ["b.pt", Path("a.pt"), "c.pt"]
    assert queue.is_empty()
    with pytest.raises(IndexError, match="empty"):
        queue.dequeue()


def test_results_come_in_the_order_of_the_queue_whatever_takes_long() -> None:
    queue = filled("slow", "abc", "slow", "a")
    assert list(queue.process(length, slots=["cpu", "cpu"])) == [4, 3, 4, 1]
    assert queue.is_empty()


def test_each_worker_sees_its_own_slot() -> None:
    assert set(filled(*"abcd").process(visible, slots=["cuda:5", "cuda:6"])) <= {"5", "6"}


def test_a_failure_is_raised_in_its_place_and_what_was_not_given_out_waits_again() -> None:
    queue = filled("a", "bad", "c", "d")
    results = queue.process(picky, slots=["cpu"])
    assert next(results) == "a"
    with pytest.raises(FunctionFailed, match="bad: picky raised ValueError: not this one"):
        next(results)
    assert list(queue) == ["c", "d"]


def test_failures_can_be_returned_in_their_place() -> None:
    results = list(filled("a", "bad", "fatal", "d").process(picky, slots=["cpu", "cpu"], on_error="return"))
    assert [results[0], results[3]] == ["a", "d"]
    assert isinstance(results[1], FunctionFailed)
    assert "SIGKILL" in str(results[2])


def test_a_worker_that_dies_is_noticed_though_what_it_started_lives_on() -> None:
    (result,) = filled("a").process(dies_leaving_a_child, slots=["cpu"], on_error="return")
    assert "exit code 5" in str(result)


@pytest.mark.parametrize("slots", [[], "cuda:0", ["gpu"]])
def test_slots_that_are_none_are_named(slots: list[str] | str) -> None:
    with pytest.raises(UsageError, match=r"FIFOModelQueue\.process: slots"):
        list(filled("a").process(length, slots=slots))  # type: ignore[arg-type]


def test_results_arrive_as_they_were(tmp_path: Path) -> None:
    (result,) = filled("a").process(odd, slots=["cpu"])
    assert isinstance(result, dict)
    assert math.isnan(result[1])
    assert (result["inf"], result["raw"], result["pair"]) == (math.inf, b"\xff", [1, 2])


def test_a_worker_that_dies_between_two_calls_is_replaced() -> None:
    results = filled("a", "b").process(dies_afterwards, slots=["cpu"])
    first = next(results)
    time.sleep(0.6)
    assert [first, *results] == ["a", "b"]


def test_what_cannot_travel_is_an_error_with_the_next_step() -> None:
    (result,) = filled("a").process(unsendable, slots=["cpu"], on_error="return")
    assert "cannot travel" in str(result)
    with pytest.raises(UsageError, match="top level of a module"):
        filled("a").process(lambda path: path)


def test_a_durable_queue_outlives_its_process_and_keeps_absolute_paths(tmp_path: Path) -> None:
    with FIFOModelQueue(tmp_path / "queue.sqlite3") as queue:
        queue.enqueue("model1.pt")
        queue.enqueue("/data/model2.pt")
    with FIFOModelQueue(tmp_path / "queue.sqlite3") as queue:
        assert list(queue) == [os.path.abspath("model1.pt"), "/data/model2.pt"]


def test_several_processes_share_a_queue_without_losing_or_doubling(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite3"
    with FIFOModelQueue(file) as queue:
        for i in range(60):
            queue.enqueue(f"/m/{i}")
    taker = (
        "import sys; from fifomark import FIFOModelQueue\n"
        "q = FIFOModelQueue(sys.argv[1])\n"
        "while True:\n"
        "    try: print(q.dequeue())\n"
        "    except IndexError: break\n"
    )
    takers = [subprocess.Popen([sys.executable, "-c", taker, file], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    taken = [line for process in takers for line in process.communicate(timeout=60)[0].split()]
    assert sorted(taken) == sorted(f"/m/{i}" for i in range(60))


def test_what_a_dead_process_was_working_on_waits_again(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite3"
    with FIFOModelQueue(file) as queue:
        queue.enqueue("/m/1")
        queue.enqueue("/m/2")
        dying = f"import os; from fifomark.ledger.fifo import Fifo; Fifo({str(file)!r}).claim(); os._exit(1)"
        subprocess.run([sys.executable, "-c", dying], check=False)
        assert list(queue) == ["/m/1", "/m/2"]


def test_names_of_any_bytes_go_through(tmp_path: Path) -> None:
    name = os.fsdecode(b"/m/\xff.pt")
    with FIFOModelQueue(tmp_path / "q") as queue:
        queue.enqueue(name)
        assert list(queue.process(length, slots=["cpu"])) == [len(name)]


def test_a_file_that_is_no_queue_is_named(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"no database" * 100)
    with pytest.raises(UsageError, match="cannot be used as a queue"):
        FIFOModelQueue(tmp_path / "q")


def test_a_queue_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "q")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="newer fifomark"):
        FIFOModelQueue(tmp_path / "q")


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(fifomark, name) is not None for name in fifomark.__all__)
