"""What workers of the CPU are forked from. That they behave as others do, the pool's own tests show with both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
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


@pytest.mark.parametrize("module", ["pool_bench", "nothing_of_this_name"])
def test_a_template_that_was_expected_and_nobody_needs_wakes_nobody(module: str) -> None:
    pool = LocalPool(obey, [CPU], preload=module)
    pool.expect()
    until = time.monotonic() + 60
    while wait(pool.waitables(), timeout=0.1) or time.monotonic() < until - 58:
        pool.collect(time.time())
        assert time.monotonic() < until
    started = time.monotonic()
    assert not wait(pool.waitables(), timeout=0.3)
    assert time.monotonic() - started >= 0.3
    pool.close()


def test_a_pool_that_is_closed_while_its_template_imports_does_not_wait_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = LocalPool(obey, [CPU], preload="slow_to_import")
    pool.expect()
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 1.0


def test_where_a_fork_fails_the_others_go_on_and_that_worker_is_started_without(pool: LocalPool) -> None:
    first = said(pool, "pid", CPU)
    template = psutil.Process(parent(first))
    used = {int(entry.name) for entry in Path(f"/proc/{template.pid}/fd").iterdir()}
    _, most = [number for number in range(max(used) + 3) if number not in used][:2]  # one is left: for its copy of what it is sent
    template.rlimit(psutil.RLIMIT_NOFILE, (most, most))
    second = said(pool, "pid", OTHER)
    assert parent(second) == os.getpid()
    assert said(pool, "pid", CPU) == first
    assert template.is_running()


SCRIPT = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("the script")
from pool_bench import *
if __name__ == "__main__":
    pool = LocalPool(obey, [CPU], preload="pool_bench")
    print(outcome(pool, "exit 7").how, said(pool, "pid") != "", flush=True)
    pool.close()
"""


def test_the_script_that_uses_a_pool_is_not_run_again_for_it_and_its_signals_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.stdout.splitlines() == ["the script", "exit code 7 True"], ran.stderr
