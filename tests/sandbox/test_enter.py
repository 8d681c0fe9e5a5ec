from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fifomark.sandbox.enter import FORKING, READING, RUNNING, WRITING, available
from fifomark.sandbox.seccomp import MACHINE_CODE, THREADS, TRAPS, compiled
from fifomark.sandbox.syscalls import numbers

needs_kernel = pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}")

# What a locked-down process tries, and what must come of it. Each is tried in a process of its own.
ESCAPES = {
    "open a file to read": "open('/etc/hostname')",
    "open a file to write": "open('OUT', 'w')",
    "list a folder": "os.listdir('/')",
    "make a folder": "os.mkdir('OUT')",
    "delete a file": "os.unlink('OUT')",
    "make a link": "os.symlink('/etc/hostname', 'OUT')",
    "a TCP socket": "socket.socket()",
    "a UNIX socket": "socket.socket(socket.AF_UNIX)",
    "a socket pair": "socket.socketpair()",
    "execve": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "fork": "os.fork()",
    "a thread": "__import__('_thread').start_new_thread(print, ())",
    "kill its parent": "os.kill(os.getppid(), 0)",
    "kill itself": "os.kill(os.getpid(), 0)",
    "a pidfd": "os.pidfd_open(1)",
    "ptrace": "call(numbers['ptrace'], 16, 1, 0, 0)",
    "memory that can be executed": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "a memfd": "os.memfd_create('x')",
    "change its mode": "os.fchmod(0, 0o777)",
    "more resources": "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
    "send a descriptor": "socket.send_fds(pair[0], [b'x'], [0])",
    "an io_uring": "call(425, 8, ctypes.create_string_buffer(256))",
    "a key": "call(250, 0, -3, 0)",
    "a new namespace": "os.open and call(272, 0x10000000)",
    "x32's table of calls": "call(0x40000000 + 39)",
}
TRY = """
import ctypes, mmap, os, resource, socket, sys, threading, zlib
sys.path.append({root!r})
from fifomark.sandbox import enter as policies
from fifomark.sandbox.enter import enter
from fifomark.sandbox.syscalls import syscall
numbers = {{'ptrace': 101}}
call = lambda number, *args: syscall(number, *args)
pair = socket.socketpair()
assert all(enter(getattr(policies, {policy!r}), 'required'))
try:
    {attempt}
except OSError as e:
    os.write(1, str(e.errno).encode())
except BaseException as e:
    os.write(1, type(e).__name__.encode())
else:
    os.write(1, b'escaped')
os._exit(0)
"""
ROOT = str(Path(__file__).parents[2])


def attempt(code: str, folder: Path, policy: str = "READING") -> str:
    program = TRY.format(root=ROOT, attempt=code, policy=policy)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, cwd=folder, timeout=30, check=False)
    if done.returncode == -signal.SIGSYS:
        return "killed"
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_kernel
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the raw calls are those of x86-64")
@pytest.mark.parametrize("what", ESCAPES)
def test_a_locked_down_process_is_refused(what: str, tmp_path: Path) -> None:
    assert attempt(ESCAPES[what], tmp_path) in ("1", "RuntimeError", "ValueError")  # EPERM, in the words of os, _thread and resource
    assert os.listdir(tmp_path) == []


@needs_kernel
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the raw calls are those of x86-64")
@pytest.mark.parametrize("what", sorted(set(ESCAPES) - {"a thread", "a memfd", "send a descriptor"}))
def test_a_locked_down_writer_is_refused_the_same(what: str, tmp_path: Path) -> None:
    assert attempt(ESCAPES[what], tmp_path, "WRITING") in ("1", "RuntimeError", "ValueError")
    assert os.listdir(tmp_path) == []


DEADLY = ("open a file to write", "a TCP socket", "a UNIX socket", "execve", "ptrace")


@needs_kernel
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the raw calls are those of x86-64")
@pytest.mark.parametrize("what", sorted(set(ESCAPES) - {"a thread", "memory that can be executed"}))
def test_what_runs_a_script_is_refused_the_same_or_killed(what: str, tmp_path: Path) -> None:
    expected = ("killed",) if what in DEADLY else ("1", "RuntimeError", "ValueError")
    assert attempt(ESCAPES[what], tmp_path, "RUNNING") in expected
    assert os.listdir(tmp_path) == []


@needs_kernel
def test_threads_of_a_writer_run_and_are_bound_as_it_is(tmp_path: Path) -> None:
    code = (
        "said = []; threading.excepthook = lambda e: said.append(e.exc_type.__name__); "
        "thread = threading.Thread(target=lambda: (said.append('ran'), open('/etc/hostname'))); "
        "thread.start(); thread.join(); os.write(1, ' '.join(said).encode()); os._exit(0)"
    )
    assert attempt(code, tmp_path, "WRITING") == "ran PermissionError"


@needs_kernel
def test_a_process_with_threads_cannot_be_locked_down_by_one_of_them() -> None:
    code = (
        f"import sys; sys.path.append({ROOT!r})\n"
        "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "from fifomark.sandbox.enter import READING, enter; enter(READING, 'auto')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "RuntimeError: 2 threads run already" in done.stderr


@needs_kernel
def test_a_locked_down_process_can_still_compute_read_what_is_open_and_write_to_a_pipe(tmp_path: Path) -> None:
    honest = "assert zlib.crc32(os.urandom(9)) is not None; x = [0] * 10**6; os.write(1, b'did '); 1"
    assert attempt(honest, tmp_path) == "did escaped"


@needs_kernel
def test_landlock_alone_refuses_every_path(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.append({ROOT!r})\n"
        "from fifomark.sandbox import landlock\nfrom fifomark.sandbox.syscalls import prctl\nimport json, os\n"
        "prctl(38, 1); landlock.forbid_everything(); said = []\n"
        "for path, flags in (('/etc/hostname', os.O_RDONLY), ('/tmp/x', os.O_CREAT | os.O_WRONLY)):\n"
        "    try: os.open(path, flags); said.append('open')\n"
        "    except PermissionError: said.append('refused')\n"
        "print(json.dumps(said))"
    )
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == ["refused", "refused"]


def test_readers_are_left_less_than_their_server() -> None:
    assert set(READING) < set(FORKING)
    assert not {"fork", "clone", "clone3", "prctl", "sendmsg", "pidfd_send_signal"} & set(READING)
    for policy in (FORKING, WRITING, RUNNING):
        assert not {"open", "openat", "execve", "socket", "connect", "ptrace", "kill", "tgkill"} & set(policy)
    for policy in (WRITING, RUNNING):
        assert not {"fork", "clone", "clone3", "wait4"} & set(policy)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_of_the_policies_is_known_on_every_machine_that_has_it(machine: str) -> None:
    known = numbers(machine)
    assert known is not None
    assert set(FORKING) - set(known) <= {"fork", "poll"}
    assert set(RUNNING) - set(known) == {TRAPS, MACHINE_CODE, THREADS}
    assert len(compiled(FORKING, machine)) % 8 == 0


def test_a_machine_that_is_not_known_gets_no_filter() -> None:
    with pytest.raises(OSError, match="not known"):
        compiled(READING, "pdp11")
