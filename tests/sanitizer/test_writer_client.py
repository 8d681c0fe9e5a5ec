"""The writer as a process: locked down, replaced when it is lost, and nobody else's business."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import builders
import msgspec
import psutil
import pytest
import torch

import fifomark
from fifomark.core.errors import InternalError
from fifomark.core.findings import Verdict
from fifomark.core.inspection import CleanFile, Inspection, conclude
from fifomark.core.policy import Isolation, Limits, Policy
from fifomark.sandbox.enter import available
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.sanitizer.launching import PROGRAM
from fifomark.sanitizer.messages import Answer, Request
from fifomark.sanitizer.sanitizer import Job, Sanitizer, _Group
from fifomark.sanitizer.writer_client import Lost, WriterClient

# A writer that does BODY instead of answering.
REPLACED = """
import sys; sys.path += {{homes!r}}
from fifomark.sanitizer import answering, messages, writer_server
import os, time, signal, socket, msgspec
def answered(request, fds, seen):
    names = [item.path for item in request.items]
    {body}
answering.answered, honest = answered, answering.answered
writer_server.main({{fd}}, sandbox={sandbox!r})
"""


TROUBLED = """
import sys; sys.path += {homes!r}
from fifomark.sanitizer.messages import Greeting, send
import socket, msgspec
send(socket.socket(fileno={fd}), msgspec.json.encode(Greeting(trouble="no such luck")))  # {sandbox}
"""


def replaced(body: str, sandbox: str = "off", isolation: Isolation = Isolation.SUBMISSION) -> Sanitizer:
    sanitizer = Sanitizer(isolation=isolation)
    sanitizer._writer = WriterClient("auto", REPLACED.format(body=body, sandbox=sandbox))
    return sanitizer


def read(sanitizer: Sanitizer, jobs: list[Job]) -> list[Inspection]:
    """What the jobs come to, where none fails on our side."""
    seen = list(sanitizer.inspect_all(jobs))
    inspections = [one for one in seen if isinstance(one, Inspection)]
    assert inspections == seen
    return inspections


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.pt"
    path.write_bytes(builders.logistic())
    return path


def processes(sanitizer: Sanitizer) -> list[psutil.Process]:
    """The writer and its parser server."""
    assert sanitizer.pid is not None
    writer = psutil.Process(sanitizer.pid)
    return [writer, *writer.children()]


def test_the_parser_is_forked_before_the_writer_imports_more_than_the_standard_library(file: Path) -> None:
    with Sanitizer() as sanitizer:
        sanitizer.inspect(file)
        writer, parser = ({Path(m.path).name.split(".")[0] for m in p.memory_maps()} for p in processes(sanitizer))
    assert {"_multiarray_umath", "_core"} <= writer
    assert not {"_multiarray_umath", "_core"} & parser


@pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}")
def test_parser_and_writer_are_locked_down_and_say_so() -> None:
    with Sanitizer(sandbox="required") as sanitizer:
        assert sanitizer.in_force.parser == sanitizer.in_force.writer == available()
        for process in processes(sanitizer):
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "NoNewPrivs:\t1" in status
            assert "Seccomp:\t2" in status


@pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}")
@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/hostname')",
        "open('/tmp/x', 'w')",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.execv(sys.executable, ['python'])",
        "socket.socket()",
        "__import__('xml.dom.minidom')",
    ],
)
def test_a_writer_cannot_reach_out(file: Path, attempt: str) -> None:
    body = f"\n    try: {attempt}\n    except OSError as e: return [messages.Answer(trouble=messages.Trouble(errno=e.errno, message='no'))]"
    with replaced(body, "required") as sanitizer, pytest.raises(PermissionError):
        sanitizer.inspect(file)


def test_a_writer_and_its_parser_that_were_killed_are_started_again(file: Path) -> None:
    with Sanitizer() as sanitizer:
        for victim in (0, 1):
            before = processes(sanitizer)
            before[victim].kill()
            _wait_for_the_end_of(before[victim].pid)
            assert sanitizer.inspect(file).verdict is Verdict.CLEAN
            _wait_for_the_end_of(*(process.pid for process in before))


def test_a_parsers_child_that_was_killed_from_outside_costs_its_file_nothing(file: Path) -> None:
    """The parser cannot be started again in there, and need not be."""
    with Sanitizer() as sanitizer:
        both = processes(sanitizer)
        (waiting,) = both[1].children()
        waiting.suspend()
        killer = threading.Thread(target=_kill_once_told, args=(both[1], waiting))
        killer.start()
        assert sanitizer.inspect(file).verdict is Verdict.CLEAN
        killer.join()
        assert processes(sanitizer) == both


def _kill_once_told(server: psutil.Process, child: psutil.Process) -> None:
    """The server starts the next child once it has told this one what to read."""
    while server.children() == [child]:
        time.sleep(0.001)
    child.kill()


def test_a_writer_that_is_killed_while_it_starts_is_started_again(file: Path, tmp_path: Path) -> None:
    once = f"import os\nif not os.path.exists({str(tmp_path / 'x')!r}): os.mkdir({str(tmp_path / 'x')!r}); os.kill(os.getpid(), 9)\n"
    sanitizer = Sanitizer()
    sanitizer._writer = WriterClient("auto", once + PROGRAM)
    with sanitizer:
        assert sanitizer.inspect(file).verdict is Verdict.CLEAN


def test_a_writer_that_is_killed_each_time_it_starts_is_our_fault() -> None:
    client = WriterClient("auto", "import os; os.kill(os.getpid(), 9)  # {homes} {fd} {sandbox}")
    with pytest.raises(InternalError, match="cannot be started: it says nothing"):
        client.start()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)  # {homes} {fd} {sandbox}", "it says nothing"),
        (TROUBLED, "no such luck"),
    ],
)
def test_whoever_asked_a_writer_before_it_was_ready_hears_why_it_could_not_start(file: Path, program: str, why: str) -> None:
    sanitizer = Sanitizer(isolation=Isolation.BATCH)
    sanitizer._writer = WriterClient("auto", program, files=MAX_FILES)
    with closing(sanitizer):
        answers = list(sanitizer.inspect_all([Job(file)] * (2 * MAX_FILES + 1)))
    assert all(isinstance(answer, InternalError) for answer in answers)
    assert "cannot be started" in str(answers[0])
    assert why in str(answers[0])


def test_a_writer_that_is_killed_while_it_starts_is_asked_again(file: Path, tmp_path: Path) -> None:
    once = f"import os\nif not os.path.exists({str(tmp_path / 'x')!r}): os.mkdir({str(tmp_path / 'x')!r}); os.kill(os.getpid(), 9)\n"
    sanitizer = Sanitizer()
    sanitizer._writer = WriterClient("auto", once + PROGRAM)
    with closing(sanitizer):
        assert sanitizer.inspect(file).verdict is Verdict.CLEAN


def test_a_file_that_kills_its_writer_twice_is_refused_and_the_next_one_is_read(file: Path, tmp_path: Path) -> None:
    (tmp_path / "deadly.pt").write_bytes(builders.logistic())
    body = "\n    if 'deadly' in names[0]: os.kill(os.getpid(), signal.SIGKILL)\n    return honest(request, fds, seen)"
    with replaced(body) as sanitizer:
        seen = sanitizer.inspect(tmp_path / "deadly.pt", clean_to=str(tmp_path / "clean"))
        assert [finding.code for finding in seen.findings] == ["FM208"]
        assert "lost twice" in seen.findings[0].message
        assert sanitizer.inspect(file, clean_to=str(tmp_path / "clean")).clean is not None
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "clean", "deadly.pt"]


def test_a_writer_that_takes_too_long_is_stopped(file: Path) -> None:
    started = time.monotonic()
    with replaced("time.sleep(60)") as sanitizer:
        seen = sanitizer.inspect(file, limits=Limits(parse_seconds=0.1, sanitize_seconds=0.2))
    assert (seen.verdict, seen.findings[0].code) == (Verdict.UNSAFE, "FM208")
    assert "more than 0.2 seconds" in seen.findings[0].message
    assert time.monotonic() - started < 30


def test_in_a_batch_only_the_file_that_kills_is_refused(file: Path, tmp_path: Path) -> None:
    names = ["a.pt", "deadly.pt", "c.pt"]
    for name in names:
        (tmp_path / name).write_bytes(builders.logistic())
    body = "\n    if any('deadly' in n for n in names): os._exit(1)\n    return honest(request, fds, seen)"
    with replaced(body, isolation=Isolation.BATCH) as sanitizer:
        seen = read(sanitizer, [Job(tmp_path / name, clean_to=str(tmp_path / f"{name}.clean")) for name in names])
    assert [one.verdict for one in seen] == [Verdict.CLEAN, Verdict.UNSAFE, Verdict.CLEAN]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.clean", "c.pt", "c.pt.clean", "deadly.pt"]
    for one, name in zip(seen, names, strict=True):
        if one.clean is not None:
            assert hashlib.sha256((tmp_path / f"{name}.clean").read_bytes()).hexdigest() == one.clean.sha256


@pytest.mark.parametrize("isolation", Isolation)
def test_a_writer_that_dies_now_and_then_costs_no_file_its_answer(tmp_path: Path, isolation: Isolation) -> None:
    """Two requests are under way at once: both are lost, and both are asked again."""
    jobs = [Job(tmp_path / f"{i:02d}.pt", clean_to=str(tmp_path / f"{i:02d}.clean")) for i in range(60)]
    for job in jobs:
        Path(os.fsdecode(job.path)).write_bytes(builders.logistic(int(Path(os.fsdecode(job.path)).stem)))
    body = "\n    global n; n = globals().get('n', 0) + 1\n    if n == 3: os._exit(1)\n    return honest(request, fds, seen)"
    with replaced(body, isolation=isolation) as dying, Sanitizer() as steady:
        seen = read(dying, jobs)
        assert [one.clean and one.clean.sha256 for one in seen] == [
            hashlib.sha256(Path(str(job.clean_to)).read_bytes()).hexdigest() for job in jobs
        ]
        assert seen == list(steady.inspect_all(jobs))


def test_a_writer_that_died_with_a_request_in_hand_is_not_replaced_behind_its_back(file: Path, tmp_path: Path) -> None:
    """Or else the answer to the second request would be taken for that to the first."""
    (tmp_path / "b.pt").write_bytes(builders.logistic(1))
    with replaced("os._exit(1)") as sanitizer:
        one, two = (
            _Group([Job(path)], Request(items=(), policy=Policy(), limits=Limits(), format="pt")) for path in (file, tmp_path / "b.pt")
        )
        sanitizer._writer.send(one.request, one.fds)
        _wait_for_the_end_of(sanitizer.pid or 0)
        for attempt in (lambda: sanitizer._writer.send(two.request, two.fds), lambda: next(sanitizer._writer.receive(one.request, 9))):
            with pytest.raises(Lost):
                attempt()
        one.close()
        two.close()


class Dying:
    """A writer that dies behind the first answer of each request, as far as a sanitizer can tell."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def start(self) -> None: ...

    def close(self, *, kill: bool = False) -> None: ...

    def send(self, request: Request, fds: list[int]) -> None:
        self.asked.append([item.path for item in request.items])
        for item, fd in zip(request.items, fds[1::2], strict=True):
            os.pwrite(fd, item.path.encode(), 0)

    def receive(self, request: Request, seconds: float) -> Iterator[Answer]:
        first = request.items[0]
        clean = CleanFile(size=1, sha256="")
        yield Answer(inspection=msgspec.structs.replace(conclude(first.path, []), clean=clean))
        raise Lost(overdue=False)


def test_what_a_writer_answered_before_it_died_is_not_asked_again(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.pt") for i in range(4)]
    for path in paths:
        Path(path).write_bytes(builders.logistic())
    dying = Dying()
    with Sanitizer(isolation=Isolation.BATCH) as sanitizer:
        sanitizer._writer.close()
        sanitizer._writer = dying  # type: ignore[assignment]
        seen = read(sanitizer, [Job(path, clean_to=f"{path}.clean") for path in paths])
    assert [one.path for one in seen] == paths
    assert dying.asked == [paths, paths[1:], paths[2:3], paths[3:]]
    assert [Path(f"{path}.clean").read_text() for path in paths] == paths  # once, and nobody emptied it afterwards


def test_honest_files_do_not_wait_for_one_that_takes_its_time(tmp_path: Path) -> None:
    slow = Job(tmp_path / "slow.pt")
    nested = b")" + b"".join(b"2\x86" for _ in range(60))  # a tuple of itself twice, sixty times over: as a key it hashes for ever
    Path(str(slow.path)).write_bytes(builders.archive(builders.pickled(b"}" + nested + b"Ns"), {}))
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    jobs = [Job(tmp_path / "a.pt"), slow, Job(tmp_path / "a.pt")]
    told: list[tuple[float, str]] = []
    with Sanitizer(isolation=Isolation.BATCH) as sanitizer:
        for one in sanitizer.inspect_all(jobs, limits=Limits(parse_seconds=2.0)):
            assert isinstance(one, Inspection)
            told.append((time.monotonic(), one.verdict))
    assert [verdict for _, verdict in told] == ["clean", "unsafe", "clean"]
    assert told[1][0] - told[0][0] > 1


def test_what_a_slow_writer_has_done_is_not_held_back_by_the_rest(tmp_path: Path) -> None:
    body = "\n    for i, one in enumerate(honest(request, fds, seen)):\n        time.sleep(i % 2 and 1.5)\n        yield one"
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    told = []
    with replaced(body, isolation=Isolation.BATCH) as sanitizer:
        for _ in sanitizer.inspect_all([Job(tmp_path / "a.pt")] * 4):
            told.append(time.monotonic())
    assert told[3] - told[1] > 1  # the first two came before the last began


def test_an_answer_about_another_file_is_not_believed(file: Path) -> None:
    body = "\n    (one,) = honest(request, fds, seen)\n    other = msgspec.structs.replace(one.inspection, path='x')"
    body += "\n    return [messages.Answer(inspection=other)]"
    with replaced(body) as sanitizer:
        assert [finding.code for finding in sanitizer.inspect(file).findings] == ["FM208"]


def test_files_that_nobody_asks_for_any_more_are_not_answered_for_the_next(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b.pt").write_bytes(b"text")
    with Sanitizer() as sanitizer:
        several = sanitizer.inspect_all([Job(tmp_path / "b.pt")] * 9)
        next(several)
        several.close()  # type: ignore[attr-defined]
        assert sanitizer.inspect(file).verdict is Verdict.CLEAN


@pytest.mark.parametrize("nonsense", ["[]", "[messages.Answer()] * 2", "[7]", "[messages.Answer()]"])
def test_nonsense_from_the_writer_is_not_believed(file: Path, nonsense: str) -> None:
    with replaced(f"return {nonsense}") as sanitizer:
        assert [finding.code for finding in sanitizer.inspect(file).findings] == ["FM208"]


def test_a_bug_of_the_writers_is_an_internal_error_with_its_place(file: Path) -> None:
    body = "\n    answering.inspect = None\n    return honest(request, fds, seen)"
    with replaced(body) as sanitizer, pytest.raises(InternalError, match="'NoneType' object is not callable"):
        sanitizer.inspect(file)


def three(tmp_path: Path) -> list[Job]:
    """The second of them is called deadly."""
    names = ("a", "deadly", "c")
    for name in names:
        (tmp_path / f"{name}.pt").write_bytes(builders.logistic())
    return [Job(tmp_path / f"{name}.pt", clean_to=str(tmp_path / f"{name}.clean")) for name in names]


FAILING_OVER_ONE = """
    def failing(file, *rest):
        if 'deadly' in file.path: raise {error}
        return inspect(file, *rest)
    global inspect; inspect = globals().get('inspect', answering.inspect); answering.inspect = failing
    return honest(request, fds, seen)"""


def test_a_writer_keeps_the_memory_that_it_reads_into(tmp_path: Path) -> None:
    """Or the kernel has to clear it anew for every piece, which takes as long as hashing it."""
    torch.save({f"{i}.weight": torch.rand(1024, 2048) for i in range(8)}, tmp_path / "large.pt")
    with Sanitizer() as sanitizer:
        faults = []
        for _ in range(4):
            sanitizer.inspect(tmp_path / "large.pt")
            faults.append(int(Path(f"/proc/{sanitizer.pid}/stat").read_text().rpartition(")")[2].split()[7]))
    # Pages; what is read comes to 16,384 each time. Threads take some hundreds for their first buffers, whenever those come.
    assert min(after - before for before, after in pairwise(faults)) < 100


@pytest.mark.parametrize("isolation", Isolation)
def test_a_file_that_exhausts_the_writers_memory_is_refused_and_the_others_are_read(tmp_path: Path, isolation: Isolation) -> None:
    with replaced(FAILING_OVER_ONE.format(error="bytearray(1 << 30)"), isolation=isolation) as sanitizer:
        seen = list(sanitizer.inspect_all(three(tmp_path)))
    assert [isinstance(one, Inspection) and [finding.code for finding in one.findings] for one in seen] == [[], ["FM208"], []]
    assert sorted(os.listdir(tmp_path)) == ["a.clean", "a.pt", "c.clean", "c.pt", "deadly.pt"]


@pytest.mark.parametrize("isolation", Isolation)
def test_a_bug_over_one_file_costs_the_others_nothing(tmp_path: Path, isolation: Isolation) -> None:
    with replaced(FAILING_OVER_ONE.format(error="KeyError"), isolation=isolation) as sanitizer:
        seen = list(sanitizer.inspect_all(three(tmp_path)))
    assert [type(one) for one in seen] == [Inspection, InternalError, Inspection]
    assert sorted(os.listdir(tmp_path)) == ["a.clean", "a.pt", "c.clean", "c.pt", "deadly.pt"]


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("place", ["folder", "nowhere/b.clean"])
def test_a_clean_file_that_cannot_be_written_costs_the_others_nothing(tmp_path: Path, isolation: Isolation, place: str) -> None:
    (tmp_path / "folder").mkdir()
    one, two, last = three(tmp_path)
    with Sanitizer(isolation=isolation) as sanitizer:
        seen = list(sanitizer.inspect_all([one, two._replace(clean_to=str(tmp_path / place)), last]))
    assert [isinstance(one, Inspection) for one in seen] == [True, False, True]
    assert isinstance(seen[1], OSError)
    assert sorted(os.listdir(tmp_path)) == ["a.clean", "a.pt", "c.clean", "c.pt", "deadly.pt", "folder"]


def test_a_full_disk_is_the_callers_error(file: Path, tmp_path: Path) -> None:
    full = f"return [messages.Answer(trouble=messages.Trouble(errno={errno.ENOSPC}, message='No space left on device'))]"
    with replaced(full) as sanitizer, pytest.raises(OSError, match="No space left") as caught:
        sanitizer.inspect(file, clean_to=str(tmp_path / "clean"))
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value).endswith(f"'{file}' -> '{tmp_path / 'clean'}'")
    assert os.listdir(tmp_path) == ["a.pt"]


def ours(answers: Iterable[object]) -> list[str]:
    """Each answer in short: a verdict, or the kind of error."""
    return [one.verdict if isinstance(one, Inspection) else type(one).__name__ for one in answers]


@pytest.mark.parametrize("isolation", Isolation)
def test_a_job_whose_folder_is_missing_costs_no_other_job_its_answer(tmp_path: Path, isolation: Isolation) -> None:
    targets = ["0.clean", "nowhere/1.clean", "2.clean", "3.clean", "folder"]
    (tmp_path / "folder").mkdir()
    for i, _ in enumerate(targets):
        (tmp_path / f"{i}.pt").write_bytes(builders.logistic(i))
    jobs = [Job(tmp_path / f"{i}.pt", clean_to=str(tmp_path / target)) for i, target in enumerate(targets)]
    with Sanitizer(isolation=isolation) as sanitizer:
        answers = list(sanitizer.inspect_all(jobs))
    assert ours(answers) == ["clean", "FileNotFoundError", "clean", "clean", "IsADirectoryError"]
    assert str(answers[1]) == f"[Errno 2] No such file or directory: '{tmp_path / 'nowhere/1.clean'}'"
    assert sorted(path.name for path in tmp_path.glob("*.clean")) == ["0.clean", "2.clean", "3.clean"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("isolation", Isolation)
def test_nothing_is_published_before_it_is_said(tmp_path: Path, isolation: Isolation) -> None:
    jobs = [Job(tmp_path / f"{i}.pt", clean_to=str(tmp_path / f"{i}.clean")) for i in range(5)]
    for job in jobs:
        Path(os.fsdecode(job.path)).write_bytes(builders.logistic())
    with Sanitizer(isolation=isolation) as sanitizer:
        answers = sanitizer.inspect_all(jobs)
        for said in range(1, 4):
            next(answers)
            assert len(list(tmp_path.glob("*.clean"))) == said
        answers.close()  # type: ignore[attr-defined]
        assert sanitizer.inspect(jobs[4].path).verdict is Verdict.CLEAN
    assert len(list(tmp_path.glob("*.clean"))) == 3
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("isolation", Isolation)
def test_an_error_of_ours_ends_its_own_job_only(tmp_path: Path, isolation: Isolation) -> None:
    jobs = [Job(tmp_path / f"{i}.pt") for i in range(4)]
    for job in jobs:
        Path(os.fsdecode(job.path)).write_bytes(builders.logistic())
    full = f"messages.Answer(trouble=messages.Trouble(errno={errno.ENOSPC}, message='no'))"
    bug = "messages.Answer(trouble=messages.Trouble(errno=None, message='a bug'))"
    body = f"return [{full} if '1.pt' in n else {bug} if '2.pt' in n else a for n, a in zip(names, honest(request, fds, seen))]"
    with replaced(body, isolation=isolation) as sanitizer:
        assert ours(sanitizer.inspect_all(jobs)) == ["clean", "OSError", "InternalError", "clean"]


@pytest.mark.parametrize("isolation", Isolation)
def test_a_writer_that_can_no_longer_be_started_is_said_of_each_job_that_is_left(
    several: list[Job], isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that need none have their answers."""
    with Sanitizer(isolation=isolation) as sanitizer:
        sanitizer._writer.close(kill=True)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        answers = ours(sanitizer.inspect_all(several))
        assert answers.pop(20) == "invalid"  # a link, which nobody reads
        assert answers == ["InternalError"] * 39
        monkeypatch.undo()
        assert ours(sanitizer.inspect_all(several[:2])) == ["clean", "unsafe"]


def test_a_machine_that_can_open_no_more_files_is_no_fault_of_the_file(file: Path) -> None:
    with Sanitizer() as sanitizer:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            (answer,) = sanitizer.inspect_all([Job(file)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert isinstance(answer, OSError)
        assert answer.errno == errno.EMFILE


def test_closing_ends_both_processes() -> None:
    sanitizer = Sanitizer()
    with sanitizer:
        both = processes(sanitizer)
    _wait_for_the_end_of(*(process.pid for process in both))


def test_both_die_with_the_process_that_made_them() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        sanitizer = Sanitizer()
        sanitizer.__enter__()
        os.write(writing, " ".join(str(process.pid) for process in processes(sanitizer)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    pids = [int(word) for word in os.read(reading, 100).split()]
    os.close(reading)
    os.waitpid(pid, 0)
    assert len(pids) == 2
    _wait_for_the_end_of(*pids)


def _wait_for_the_end_of(*pids: int) -> None:
    until = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_nothing_of_the_surroundings_gets_into_the_writer(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "numpy", "msgspec", "sitecustomize", "fifomark", "torch"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Sanitizer() as sanitizer:
        assert sanitizer.inspect(file).verdict is Verdict.CLEAN
    assert not (tmp_path / "RAN").exists()


NEEDED = ("fifomark", "msgspec", "numpy", "ml_dtypes")
PARENT = """
import fifomark, sys
from fifomark.sanitizer.sanitizer import Sanitizer
with Sanitizer() as one:
    print(one.inspect(sys.argv[1]).verdict, fifomark.__file__)
"""


def decoys(folder: Path, marker: Path, *names: str) -> Path:
    """A folder with packages of these names that say so where somebody imports them."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"open({str(marker)!r}, 'w').write(__file__)")
    return folder


def in_an_environment_of_its_own(file: Path, tmp_path: Path, *folders: Path) -> str:
    """What PARENT says that imports from `folders`, while decoys are installed where it runs."""
    venv.create(tmp_path / "venv", symlinks=True)
    (installed,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    decoys(installed, tmp_path / "RAN", *NEEDED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    run = [tmp_path / "venv/bin/python", "-c", PARENT, file]
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "RAN").exists(), (tmp_path / "RAN").read_text()
    return done.stdout.strip()


OURS, THEIRS = Path(fifomark.__file__).parents[1], Path(msgspec.__file__).parents[1]


def test_the_writer_imports_what_its_parent_imports_and_not_what_is_installed(file: Path, tmp_path: Path) -> None:
    assert in_an_environment_of_its_own(file, tmp_path, OURS, THEIRS) == f"clean {fifomark.__file__}"


def test_the_writer_looks_where_its_parent_looks_first(file: Path, tmp_path: Path) -> None:
    """Our own folder holds packages of the names that we need, too; the parent never comes to them."""
    own = decoys(tmp_path / "own", tmp_path / "RAN", *NEEDED[1:])
    (own / "fifomark").symlink_to(OURS / "fifomark")
    (tmp_path / "theirs").mkdir()
    for path in THEIRS.iterdir():
        if path.name.partition(".")[0] in NEEDED[1:]:  # numpy.libs as well
            (tmp_path / "theirs" / path.name).symlink_to(path)
    assert in_an_environment_of_its_own(file, tmp_path, tmp_path / "theirs", own) == f"clean {own / 'fifomark/__init__.py'}"


@pytest.fixture
def several(tmp_path: Path) -> Iterator[list[Job]]:
    kinds = {"good": builders.logistic(), "bad": builders.unsafe(tmp_path / "RAN"), "none": b"text", "cut": builders.logistic()[:900]}
    for i in range(40):
        (tmp_path / f"{i:02d}.pt").write_bytes(list(kinds.values())[i % 4])
    (tmp_path / "20.pt").unlink()
    (tmp_path / "20.pt").symlink_to("/etc/hostname")
    (tmp_path / "30.pt").write_bytes(builders.logistic() + bytes(2 << 20))
    return [Job(tmp_path / f"{i:02d}.pt", clean_to=str(tmp_path / f"{i:02d}.clean")) for i in range(40)]


def test_batches_say_what_single_files_are_said_to_be(several: list[Job]) -> None:
    with Sanitizer() as alone, Sanitizer(isolation=Isolation.BATCH) as together:
        expected = list(alone.inspect_all(several))
        clean = [Path(str(job.clean_to)).read_bytes() for job in several if Path(str(job.clean_to)).exists()]
        assert list(together.inspect_all(several)) == expected
    assert clean == [Path(str(job.clean_to)).read_bytes() for job in several if Path(str(job.clean_to)).exists()]
    assert len(clean) == 9
