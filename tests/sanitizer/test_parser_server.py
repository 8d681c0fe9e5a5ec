"""The parser server: children that misbehave are findings, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import builders
import pytest

from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding, Level
from fifomark.core.policy import Limits
from fifomark.sandbox.enter import available
from fifomark.sanitizer import parser_client as client_module
from fifomark.sanitizer import parser_server
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.sanitizer.parser_client import ParserClient
from fifomark.sanitizer.parser_process import Server
from fifomark.torchfile.description import Description

LIMITS = Limits(parse_seconds=1.0)

# A server whose children run BODY(fd, limits) in place of the parser.
REPLACED = """
import sys; sys.path.append({{root!r}})
from fifomark.sanitizer import parser_server
import os, time, signal, ctypes
def body(fd, limits):
    {body}
parser_server.main({{fd}}, body, {{sandbox!r}})
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    fd = os.open(tmp_path / "a.pt", os.O_RDONLY)
    yield fd
    os.close(fd)


def said(body: str, fd: int, limits: Limits = LIMITS) -> str:
    """The message of the finding about a child that does `body`, not locked down; the next child must do as well as ever."""
    client = ParserClient(REPLACED.format(body=body), sandbox="off")
    try:
        finding = client.describe([fd], limits)[0]
        assert isinstance(finding, Finding)
        assert (finding.code, finding.level) == ("FM208", Level.UNSAFE)
        again = client.describe([fd], limits)[0]
        assert again == finding
        return f"{finding.message} {finding.evidence}"
    finally:
        client.close()


def test_an_honest_file_is_described(file: int) -> None:
    client = ParserClient()
    seen = client.describe([file], LIMITS)[0]
    client.close()
    assert isinstance(seen, Description)
    assert (seen.container, [entry.name for entry in seen.groups[0].entries]) == ("zip", ["weight", "bias"])


def test_a_child_that_hangs_is_stopped_in_time(file: int) -> None:
    started = time.monotonic()
    assert "more than 0.2 seconds" in said("time.sleep(60)", file, Limits(parse_seconds=0.2))
    assert time.monotonic() - started < 30


def test_a_child_that_stops_itself_is_stopped_in_time(file: int) -> None:
    assert "more than 0.2 seconds" in said("os.kill(os.getpid(), signal.SIGSTOP)", file, Limits(parse_seconds=0.2))


def test_a_child_that_computes_for_ever_meets_its_limit(file: int) -> None:
    assert "more than 0.2 seconds" in said("while True: pass", file, Limits(parse_seconds=0.2))


def test_a_child_that_eats_memory_gives_up(file: int) -> None:
    assert "MemoryError" in said("return bytes(1 << 31)", file, Limits(parse_memory_bytes=300 << 20))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGSYS, signal.SIGUSR1])
def test_a_child_that_dies_is_told_with_its_signal(file: int, number: signal.Signals) -> None:
    assert f"killed by {number.name}" in said(f"os.kill(os.getpid(), {int(number)})", file)


def test_a_child_that_raises_is_told_with_the_place_and_nothing_of_the_file(file: int) -> None:
    text = said("raise ValueError('from the file')", file)
    assert "ValueError at" in text
    assert "from the file" not in text


@pytest.mark.parametrize("body", ["b''", "b'garbage'", "b'{{}}'", "b'null'", "bytes([255]) * 10", "b'[' * 100000", "b'9' * 5000"])
def test_nonsense_is_a_finding(file: int, body: str) -> None:
    assert "cannot be understood" in said(f"return {body}", file)


def test_a_child_that_talks_too_much_is_cut_off(file: int) -> None:
    assert "more than 1,000 bytes" in said("return b'x' * (50 << 20)", file, Limits(description_bytes=1000))


def test_a_child_that_leaves_with_another_exit_code_is_told(file: int) -> None:
    assert "exit code 7" in said("os._exit(7)", file)


def test_a_child_has_no_socket_to_answer_for_the_server_with(file: int) -> None:
    targets = "[os.readlink(f'/proc/self/fd/{{n}}') for n in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{{n}}')]"
    assert "exit code 40" in said(f"os._exit(40 + sum(target.startswith('socket:') for target in {targets}))", file)


def test_a_child_can_write_no_file(file: int, tmp_path: Path) -> None:
    assert "OSError" in said(f"open({str(tmp_path / 'x')!r}, 'wb', buffering=0).write(b'x' * 10)", file)


def test_a_server_that_was_killed_is_started_again(file: int) -> None:
    client = ParserClient()
    client.start()
    assert client._server is not None
    first = client._server.pid
    os.kill(first, signal.SIGKILL)
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    assert client._server.pid != first
    client.close()


def test_an_answer_that_nobody_waited_for_is_not_the_next_files(file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    client = ParserClient()
    with monkeypatch.context() as patched:
        patched.setattr(client_module._Said, "next", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.describe([file], LIMITS)[0]
    (tmp_path / "b.pt").write_bytes(b"I am not a model\n")
    with (tmp_path / "b.pt").open("rb") as other:
        seen = client.describe([other.fileno()], LIMITS)[0]
    client.close()
    assert isinstance(seen, Description)
    assert seen.foreign == "a text file"


HONEST = "from fifomark.torchfile.describe import describe; return describe(fd, limits)"


def test_a_child_that_was_killed_once_from_outside_costs_its_file_nothing(file: int, tmp_path: Path) -> None:
    marker = str(tmp_path / "killed")
    body = f"\n    if not os.path.exists({marker!r}): os.mkdir({marker!r}); os.kill(os.getpid(), signal.SIGKILL)\n    {HONEST}"
    client = ParserClient(REPLACED.format(body=body), sandbox="off")
    client.start()
    server = client._server
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    assert client._server is server
    client.close()


def children(body: str, file: int, folder: Path, limits: Limits = LIMITS) -> tuple[str, int]:
    """The message of the finding about a child that does `body`, and how many children had to do it."""
    client = ParserClient(
        REPLACED.format(body=f"os.mkdir(os.path.join({str(folder)!r}, 'child' + str(os.getpid())))\n    {body}"), sandbox="off"
    )
    (finding,) = client.describe([file], limits)
    client.close()
    assert isinstance(finding, Finding)
    return finding.message, len(list(folder.glob("child*")))


def test_a_child_that_is_killed_each_time_is_a_finding_in_the_end(file: int, tmp_path: Path) -> None:
    message, count = children("os.kill(os.getpid(), signal.SIGKILL)", file, tmp_path)
    assert ("reading it was stopped" in message, count) == (True, 2)


@pytest.mark.parametrize("body", ["time.sleep(60)", "os.kill(os.getpid(), signal.SIGXCPU)", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_a_child_that_ends_by_its_limits_or_its_own_fault_gets_no_second_try(file: int, tmp_path: Path, body: str) -> None:
    assert children(body, file, tmp_path, Limits(parse_seconds=0.2))[1] == 1


def test_a_lower_limit_of_processor_time_ends_a_child_as_its_own_does(file: int, tmp_path: Path) -> None:
    """And not as if somebody had killed it, which would be worth a second try."""
    note = f"os.mkdir(os.path.join({str(tmp_path)!r}, 'child' + str(os.getpid())))"
    program = REPLACED.format(body=f"{note}\n    while True: pass")
    lower = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (2, 2))"
    client = ParserClient(program.replace("parser_server.main(", f"{lower}\nparser_server.main("), sandbox="off")
    (finding,) = client.describe([file], Limits(parse_seconds=60))
    client.close()
    assert isinstance(finding, Finding)
    assert "reading it was stopped" in finding.message
    assert len(list(tmp_path.glob("child*"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_whole_group_of_processes_is_not_for_the_parser(file: int, number: signal.Signals) -> None:
    body = f"os.kill(os.getppid(), {int(number)}); os.kill(os.getpid(), {int(number)}); {HONEST}"
    client = ParserClient(REPLACED.format(body=body), sandbox="off")
    client.start()
    server = client._server
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    assert client._server is server
    client.close()


def test_a_server_that_dies_each_time_is_a_finding_in_the_end(file: int) -> None:
    assert "lost twice" in said("os.kill(os.getppid(), signal.SIGKILL); time.sleep(9)", file)


def test_a_server_that_cannot_be_started_is_our_fault() -> None:
    client = ParserClient("import sys; sys.exit('no such thing')  # {root} {fd}")
    with pytest.raises(InternalError, match="no such thing"):
        client.start()
    client.close()


def test_a_forked_server_that_is_dead_is_buried_and_another_one_started(file: int) -> None:
    (pid, control), ours = _forked()
    os.kill(pid, signal.SIGKILL)
    client = ParserClient(forked=Server(pid, control))
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    client.close()
    assert not Path(f"/proc/{pid}").exists()
    os.close(ours)


def test_a_forked_server_says_why_it_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> NoReturn:
        raise OSError("no such sandbox here")

    monkeypatch.setattr(parser_server, "enter", refused)
    (pid, control), ours = _forked()
    client = ParserClient(forked=Server(pid, control))
    with pytest.raises(InternalError, match="no such sandbox here"):
        client.start()
    assert not Path(f"/proc/{pid}").exists()
    os.close(ours)


def _forked() -> tuple[tuple[int, socket.socket], int]:
    """A server, and a descriptor that it must not have."""
    ours = os.memfd_create("ours")
    forked = parser_server.fork(ours, sandbox="off")
    return forked, ours


def test_nothing_of_the_surroundings_gets_into_the_parser(file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "struct", "site", "sitecustomize", "fifomark"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "site.py"))
    client = ParserClient()
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    client.close()
    assert not (tmp_path / "RAN").exists()


def test_the_server_loads_the_standard_library_only(file: int) -> None:
    body = "import sys; os._exit(50 + len({{'numpy', 'msgspec', 'torch', 'ml_dtypes', 'site'}} & set(sys.modules)))"
    assert "exit code 50" in said(body, file)


def test_closing_ends_the_server_and_leaves_no_zombie(file: int) -> None:
    client = ParserClient()
    client.describe([file], LIMITS)[0]
    assert client._server is not None
    pid = client._server.pid
    client.close()
    assert not Path(f"/proc/{pid}").exists()


def test_two_servers_live_side_by_side(file: int) -> None:
    one, two = ParserClient(), ParserClient()
    one.start()
    two.start()
    one.close()
    assert isinstance(two.describe([file], LIMITS)[0], Description)
    two.close()


def test_a_thousand_files_leak_no_descriptor_and_no_child(file: int) -> None:
    client = ParserClient()
    client.start()
    assert client._server is not None
    server = client._server.pid
    before = _held(server)
    for _ in range(1000):
        assert isinstance(client.describe([file], LIMITS)[0], Description)
    until = time.monotonic() + 5  # the last child may still be ending
    while _held(server) != before and time.monotonic() < until:
        time.sleep(0.01)
    assert _held(server) == before
    assert client._server.pid == server
    client.close()


def _held(server: int) -> tuple[int, int, int]:
    """Our descriptors, the server's, and its children: the one that waits for the next file."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{server}/fd")), len(children)


def test_a_child_that_is_killed_while_it_waits_costs_nobody_anything(file: int) -> None:
    client = ParserClient()
    client.start()
    assert client._server is not None
    server = client._server.pid
    (waiting,) = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    os.kill(int(waiting), signal.SIGKILL)
    while _alive(int(waiting)):
        time.sleep(0.001)
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    assert client._server.pid == server
    client.close()


# Several files, one child


def several(body: str, file: int, count: int = 5, limits: Limits = LIMITS) -> list[Description | Finding]:
    """What is said of `count` files by a server whose children do `body` in place of the parser; `n` counts the calls in one child."""
    counted = f"global n; n = globals().get('n', 0) + 1; {body}"
    client = ParserClient(REPLACED.format(body=counted), sandbox="off")
    try:
        return client.describe([file] * count, limits)
    finally:
        client.close()


def test_files_that_are_handed_over_together_are_read_by_one_child(file: int) -> None:
    client = ParserClient()
    seen = client.describe([file] * MAX_FILES, LIMITS)
    client.close()
    assert len(seen) == MAX_FILES
    assert all(one == seen[0] and isinstance(one, Description) for one in seen)


@pytest.mark.parametrize("death", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGSEGV)", "raise ValueError"])
def test_a_child_that_dies_of_one_file_does_not_take_the_others_along(file: int, death: str) -> None:
    body = f"\n    if n == 3: {death}\n    {HONEST}"
    started = time.monotonic()
    seen = several(body, file)
    assert all(isinstance(one, Description) for one in seen)
    assert time.monotonic() - started < 9


def test_a_file_that_takes_all_its_time_is_not_read_again_and_the_others_are_told_as_they_come(file: int, tmp_path: Path) -> None:
    folder = str(tmp_path)
    body = f"\n    if n == 3: os.mkdir(os.path.join({folder!r}, str(os.getpid()))); time.sleep(60)\n    {HONEST}"
    client = ParserClient(REPLACED.format(body=f"global n; n = globals().get('n', 0) + 1; {body}"), sandbox="off")
    idle: list[int] = []
    seen: list[Description | Finding] = []
    limits = Limits(parse_seconds=2.0)
    for one in client.told(client.ask([file] * 5, limits), idle=lambda: idle.append(len(seen))):
        seen.append(one)
    client.close()
    assert [isinstance(one, Description) for one in seen] == [True, True, False, True, True]
    assert isinstance(seen[2], Finding)
    assert "more than 2 seconds" in seen[2].message
    assert len(list(tmp_path.glob("[0-9]*"))) == 1  # nobody slept twice
    assert 2 in idle


def test_a_slow_file_whose_time_others_took_is_read_again(file: int) -> None:
    """Alone, here, it is quick."""
    body = f"\n    time.sleep({{{{1: 1.2, 2: 60}}}}.get(n, 0))\n    {HONEST}"
    assert all(isinstance(one, Description) for one in several(body, file, 3, Limits(parse_seconds=2.0)))


def test_the_next_files_are_asked_for_while_these_are_read(file: int) -> None:
    client = ParserClient()
    one, two, three = (client.ask([file] * 3, LIMITS) for _ in range(3))
    seen = [list(client.told(asked)) for asked in (one, two, three)]
    client.close()
    assert seen[0] == seen[1] == seen[2]
    assert all(isinstance(each, Description) for each in seen[0])


def test_files_that_are_read_again_do_not_wait_for_those_that_were_asked_about_besides(file: int, tmp_path: Path) -> None:
    """Of these more is said, at first, than a pipe holds, and nobody takes it."""
    marker = str(tmp_path / "said")
    long = f"if limits.tensors == 7 and not os.path.exists({marker!r}): os.mkdir({marker!r}); return b'x' * 2_000_000"
    body = f"global n; n = globals().get('n', 0) + 1\n    {long}\n    if n == 2: os._exit(3)\n    {HONEST}"
    client = ParserClient(REPLACED.format(body=body), sandbox="off")
    started = time.monotonic()
    one, two = (client.ask([file] * 4, Limits(parse_seconds=20.0, tensors=tensors)) for tensors in (9, 7))
    assert all(isinstance(each, Description) for each in client.told(one))
    assert all(isinstance(each, Description) for each in client.told(two))
    assert time.monotonic() - started < 10
    client.close()


def test_of_several_requests_under_way_each_is_told_how_its_own_child_ended(file: int) -> None:
    client = ParserClient(REPLACED.format(body="os._exit(7 + (limits.tensors == 2))"), sandbox="off")
    asked = [client.ask([file], Limits(parse_seconds=5.0, tensors=number)) for number in (1, 2, 1)]
    said = [str(next(client.told(one))) for one in asked]
    client.close()
    assert ["exit code 7" in one for one in said] == [True, False, True]
    assert "exit code 8" in said[1]


def test_what_a_lost_server_was_asked_is_asked_again_of_the_next(file: int) -> None:
    client = ParserClient()
    asked = [client.ask([file], LIMITS) for _ in range(2)]
    assert client._server is not None
    client._server.kill()
    while client._server.alive:
        time.sleep(0.001)
    assert all(isinstance(one, Description) for each in asked for one in client.told(each))
    client.close()


def test_a_server_that_is_killed_while_it_starts_is_started_again(file: int, tmp_path: Path) -> None:
    once = (
        f"import os, signal\nif not os.path.exists({str(tmp_path / 'x')!r}): os.mkdir({str(tmp_path / 'x')!r}); os.kill(os.getpid(), 9)\n"
    )
    client = ParserClient(once.replace("{", "{{").replace("}", "}}") + client_module.PROGRAM)
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    client.close()


def test_of_many_files_that_all_kill_each_gets_its_own_finding(file: int) -> None:
    seen = several("os.kill(os.getpid(), signal.SIGABRT)", file, 3)
    assert [one.message for one in seen if isinstance(one, Finding)] == ["the parser was killed by SIGABRT while it read the file"] * 3


def test_an_answer_that_is_too_long_stops_no_other_file(file: int) -> None:
    body = f"\n    if n == 2: return b'x' * 99999\n    {HONEST}"
    seen = several(body, file, 3, Limits(parse_seconds=1.0, description_bytes=20_000))
    assert [isinstance(one, Description) for one in seen] == [True, True, True]  # the second, read again alone, is honest here


def test_the_server_dies_with_the_process_that_made_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        client = ParserClient()
        client.start()
        assert client._server is not None
        os.write(writing, str(client._server.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    server = int(os.read(reading, 100))
    os.close(reading)
    os.waitpid(pid, 0)
    until = time.monotonic() + 5
    while _alive(server) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _alive(server)


def _alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}")
@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/hostname')",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.execv(sys.executable, ['python'])",
        "__import__('socket').socket()",
        "ctypes.CDLL(None).prctl(1, 9) and (_ for _ in ()).throw(PermissionError())",
    ],
)
def test_a_child_that_the_parser_forked_cannot_reach_out(file: int, attempt: str) -> None:
    client = ParserClient(REPLACED.format(body=attempt))
    finding = client.describe([file], LIMITS)[0]
    assert client.in_force == available()
    client.close()
    assert isinstance(finding, Finding)
    assert "PermissionError" in f"{finding.message} {finding.evidence}"


def test_the_sandbox_can_be_switched_off_and_says_so(file: int) -> None:
    client = ParserClient(sandbox="off")
    assert isinstance(client.describe([file], LIMITS)[0], Description)
    assert client.in_force == (0, False)
    client.close()
