"""What workers of the CPU are forked from. That they behave as others do, the pool's own tests show with both."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pool_bench import CPU, GPU, comes_to_an_end, ended_of, obey, said, ticket

from fifomark.core.outcome import Lost
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds
from fifomark.workers.slots import Slot
from fifomark.workers.template import MAX_LOSSES

OTHER = Slot(name="cpu:1", device="cpu", visible="")
TWO_THREADS = Slot(name="cpu:2", device="cpu", visible="", threads=2)


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    made = LocalPool(obey, [CPU, OTHER, TWO_THREADS, GPU], preload="pool_bench")
    yield made
    made.close()


def parent(worker: str) -> int:
    return psutil.Process(int(worker)).ppid()


def test_slots_of_one_environment_are_forked_from_one_template_and_others_are_spawned(pool: LocalPool) -> None:
    template = parent(said(pool, "pid", CPU))
    assert template != os.getpid()
    assert parent(said(pool, "pid", OTHER)) == template
    assert [parent(said(pool, "pid", slot)) for slot in (TWO_THREADS, GPU)] == [os.getpid()] * 2
    assert said(pool, "env OMP_NUM_THREADS", TWO_THREADS) == "2"


def test_what_is_preloaded_is_imported_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('x')")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = LocalPool(obey, [CPU, OTHER], preload="slow_to_import")
    assert said(pool, "pid", CPU) != said(pool, "pid", OTHER)
    pool.close()
    assert (tmp_path / "imported").read_text() == "x"


def test_the_template_is_begun_when_work_is_expected_and_the_pool_does_not_wait_for_it(pool: LocalPool) -> None:
    assert pool.waitables() == []
    started = time.monotonic()
    pool.expect()
    assert time.monotonic() - started < 0.5
    assert len(pool.waitables()) == 2
    assert said(pool, "pid")


def test_a_template_that_is_killed_takes_its_workers_with_it_and_is_replaced_each_time(pool: LocalPool) -> None:
    templates: set[int] = set()
    for _ in range(MAX_LOSSES + 1):
        workers = [said(pool, "pid", slot) for slot in (CPU, OTHER)]
        templates.add(parent(workers[0]))
        os.kill(parent(workers[0]), signal.SIGKILL)
        assert all(comes_to_an_end(int(worker)) for worker in workers)
        for slot in (CPU, OTHER):  # the pool has not looked since
            pool.start([ticket("pid")], slot, Bounds(60), time.time())
        assert [ended.outcome for ended in ended_of(pool, 2)] == [Lost(how="killed by SIGKILL")] * 2
    assert os.getpid() not in templates
    assert len(templates) == MAX_LOSSES + 1


def test_what_is_sent_to_the_daemons_group_reaches_neither_template_nor_workers(pool: LocalPool) -> None:
    worker = int(said(pool, "pid"))
    groups = [os.getpgid(pid) for pid in (os.getpid(), parent(str(worker)), worker)]
    assert len(set(groups)) == 3


@pytest.mark.parametrize("source", ["import nothing_of_this_name", "import os; os._exit(1)", "import time; time.sleep(600)"])
def test_where_there_can_be_no_template_workers_are_started_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cannot_be_preloaded.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = LocalPool(obey, [CPU], boot_seconds=2.0, preload="cannot_be_preloaded")
    assert parent(said(pool, "pid")) == os.getpid()
    pool.close()


def test_a_pool_that_is_closed_leaves_nothing(pool: LocalPool) -> None:
    worker = said(pool, "pid")
    template = parent(worker)
    pool.close()
    assert comes_to_an_end(int(worker))
    assert comes_to_an_end(template)


def test_a_forked_worker_has_no_descriptor_of_the_template_or_of_its_siblings(pool: LocalPool) -> None:
    first, second = (said(pool, "pid", slot) for slot in (CPU, OTHER))
    ends = [{os.readlink(entry) for entry in Path(f"/proc/{worker}/fd").iterdir()} for worker in (first, second)]
    sockets = [{end for end in those if end.startswith(("socket:", "anon_inode:[pidfd]"))} for those in ends]
    assert [len(those) for those in sockets] == [1, 1]  # its line to the daemon
    assert not sockets[0] & sockets[1]
