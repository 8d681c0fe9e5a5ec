"""Tickets that lie ready before a worker that takes one after another."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import wait

import msgspec
import pytest
from pool_bench import CPU, GPU, ended_of, obey, several, state_of, ticket

from fifomark.core.outcome import Failed, Lost, Outcome
from fifomark.workers.claims import MAX_READY, Claimed, Claims
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import SHORT_SECONDS, Bounds

NOT_BEGUN = Lost(how="the worker was lost before it came to it", began=False)


@pytest.fixture
def pool(preload: str | None) -> Iterator[LocalPool]:
    made = LocalPool(obey, [CPU, GPU], preload=preload, one_by_one=True)
    yield made
    made.close()


def begin(pool: LocalPool, *paths: str, first: int = 0) -> None:
    pool.start([ticket(path, id) for id, path in enumerate(paths, first)], CPU, Bounds(60), time.time())


def wait_until_ready(pool: LocalPool) -> None:
    while state_of(pool, CPU)[0] != "busy":
        wait(pool.waitables(), timeout=0.1)
        assert pool.collect(time.time()) == []


def code_of(outcome: Outcome) -> str:
    return outcome.reason.code if isinstance(outcome, Failed) else ""


def test_each_has_its_own_outcome_in_order_and_says_when_it_began(pool: LocalPool) -> None:
    start = time.time()
    begin(pool, "burn 0.05", "env HOME", "pid")
    ended = ended_of(pool, 3)
    assert [one.submission for one in ended] == [0, 1, 2]
    assert isinstance(ended[1].outcome, Failed)
    assert ended[1].outcome.reason.message == os.environ["HOME"]
    first, second, third = [one.began or 0.0 for one in ended]
    assert start < first < second <= third < time.time()
    assert second - first > 0.5  # what the first took is none of the second's time
    assert CPU in pool.free()


def test_a_death_costs_only_the_one_that_was_worked_on(pool: LocalPool) -> None:
    outcomes = several(pool, "pid", "die", "pid", "pid")
    assert code_of(outcomes[0]) == "said"
    assert outcomes[1] == Lost(how="killed by SIGKILL")
    assert outcomes[2] == outcomes[3] == NOT_BEGUN


def test_one_that_takes_too_long_is_to_blame_and_those_behind_it_are_not(pool: LocalPool) -> None:
    outcomes = several(pool, "pid", "hang", "pid", seconds=0.5)
    assert [code_of(outcome) for outcome in outcomes.values()] == ["said", "limit-exceeded", ""]
    assert outcomes[2] == NOT_BEGUN


def test_the_bounds_are_of_each_from_its_own_beginning(pool: LocalPool) -> None:
    outcomes = several(pool, *["burn 0.01"] * 3, seconds=1.3)  # of 0.6 seconds each
    assert [code_of(outcome) for outcome in outcomes.values()] == ["said"] * 3


def test_a_worker_that_is_spent_is_replaced_before_the_next_begins(pool: LocalPool) -> None:
    outcomes = several(pool, "pid", "spent", "pid")
    assert [code_of(outcome) for outcome in outcomes.values()] == ["said", "said", ""]
    assert outcomes[2] == NOT_BEGUN


def test_what_lies_behind_one_that_takes_its_time_is_taken_back_and_never_begun(pool: LocalPool) -> None:
    begin(pool, "burn 0.1", "die", "die")
    wait_until_ready(pool)
    now = time.time()
    assert pool.take_back(now) == []
    assert pool.take_back(now + SHORT_SECONDS) == [1, 2]
    assert pool.take_back(now + 1.0) == []
    begin(pool, "pid", first=3)
    assert [(one.submission, code_of(one.outcome)) for one in ended_of(pool, 2)] == [(0, "said"), (3, "said")]


def test_everything_can_be_taken_back_but_the_first_before_the_worker_is_ready(pool: LocalPool) -> None:
    begin(pool, "pid", "die")
    assert pool.take_back(time.time(), everything=True) == [1]
    assert [(one.submission, code_of(one.outcome)) for one in ended_of(pool, 1)] == [(0, "said")]
    assert CPU in pool.free()


def test_more_may_lie_before_a_worker_that_is_ready_and_quick(pool: LocalPool) -> None:
    assert pool.ahead(time.time()) == []
    begin(pool, "hang", "pid")
    assert pool.ahead(time.time()) == []  # it is still starting
    wait_until_ready(pool)
    now = time.time()
    assert pool.ahead(now) == [(CPU, 1)]
    assert pool.ahead(now + SHORT_SECONDS) == []


def test_a_free_slot_is_warm_once_its_worker_is_ready(pool: LocalPool) -> None:
    assert pool.warm() == []  # no worker has been started
    begin(pool, "pid")
    assert pool.warm() == []
    ended_of(pool, 1)
    assert pool.warm() == [CPU]
    begin(pool, "die")
    ended_of(pool, 1)
    assert CPU in pool.free()
    assert pool.warm() == []


def test_where_all_are_handed_over_together_none_may_lie_ready() -> None:
    pool = LocalPool(obey, [CPU])
    begin(pool, "hang", "pid")
    wait_until_ready(pool)
    assert pool.ahead(time.time()) == []
    assert pool.take_back(time.time() + 60, everything=True) == []
    pool.close()


def test_tickets_of_any_size_do_not_make_us_wait_for_the_worker(pool: LocalPool) -> None:
    begin(pool, "burn 0.1")
    wait_until_ready(pool)
    now = time.time()
    begin(pool, *(f"pid {'x' * 30_000}" for _ in range(40)), first=1)
    assert time.time() - now < 0.5  # it is at work for 0.7 seconds
    assert [one.submission for one in ended_of(pool, 41)] == list(range(41))


def test_what_was_not_told_yet_is_taken_back_too(pool: LocalPool) -> None:
    begin(pool, "burn 0.1", *(f"pid {'x' * 30_000}" for _ in range(40)))
    assert pool.take_back(time.time(), everything=True) == list(range(1, 41))
    assert [one.submission for one in ended_of(pool, 1)] == [0]


def test_a_token_is_given_once() -> None:
    claims, (ours, theirs) = Claims(), Pipe()
    begun: list[int] = []
    line = Claimed(theirs, claims.tokens, begun.append)
    for id in range(5):
        ours.send_bytes(msgspec.json.encode(ticket("", id)))
    claims.offer(range(5))
    first = msgspec.json.decode(line.recv_bytes())["submission"]
    assert not line.poll()
    assert claims.take_back() == {1, 2, 3, 4}
    assert claims.take_back() == set()
    claims.offer([3])
    assert (first, msgspec.json.decode(line.recv_bytes())["submission"]) == (0, 3)
    assert begun == [0, 3]


def test_a_worker_waits_for_its_token_and_ends_when_there_will_be_none() -> None:
    claims, (ours, theirs) = Claims(), Pipe()
    heard: list[bytes] = []
    line = Claimed(theirs, claims.tokens)
    waiting = threading.Thread(target=lambda: heard.append(line.recv_bytes()))
    waiting.start()
    ours.send_bytes(msgspec.json.encode(ticket("", 7)))
    waiting.join(0.1)
    assert heard == []
    claims.offer([7])
    waiting.join(10)
    assert len(heard) == 1
    claims._writer.close()
    with pytest.raises(EOFError):
        line.recv_bytes()


def test_as_many_tokens_as_may_lie_ready_fit_at_once() -> None:
    claims = Claims()
    claims.offer(range(MAX_READY))
    assert len(claims.take_back()) == MAX_READY
