"""Runs a function in a forked process and decides about each of its system calls that changes a folder: let it happen, make it fail, or
kill the process before it.

By seccomp's user notification (seccomp_unotify(2)): the kernel stops the process at the call and asks us. So nothing of the program is
replaced, and what SQLite does by itself is seen as well.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

from fifomark.sandbox.syscalls import prctl, syscall

# x86-64 and arm64; -1: the machine has no such call. Then which argument is a descriptor, or that of a folder, and which a path.
_CALLS = {
    "open": (2, -1, "path", None, 0),
    "openat": (257, 56, "path", 0, 1),
    "write": (1, 64, "fd", 0, None),
    "pwrite64": (18, 68, "fd", 0, None),
    "writev": (20, 66, "fd", 0, None),
    "fsync": (74, 82, "fd", 0, None),
    "fdatasync": (75, 83, "fd", 0, None),
    "ftruncate": (77, 46, "fd", 0, None),
    "fallocate": (285, 47, "fd", 0, None),
    "rename": (82, -1, "path", None, 0),
    "renameat": (264, 38, "path", 0, 1),
    "renameat2": (316, 276, "path", 0, 1),
    "link": (86, -1, "path", None, 0),
    "linkat": (265, 37, "path", 0, 1),
    "unlink": (87, -1, "path", None, 0),
    "unlinkat": (263, 35, "path", 0, 1),
    "mkdir": (83, -1, "path", None, 0),
    "mkdirat": (258, 34, "path", 0, 1),
}
_MACHINES = {"x86_64": 0, "aarch64": 1}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_NOTIFICATION, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=Qqii")
_CONTINUE = 1
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_NO_NEW_PRIVILEGES, _AT_FDCWD = 38, -100

KILL, KILL_CALLER = -1, -2
Decision = int | None  # an errno, KILL for the process that was forked, KILL_CALLER for who makes the call, or None: let it happen


class Call(NamedTuple):
    """A call that is about to happen in the watched folder. `path` is from there; `to` is where a rename goes."""

    number: int
    pid: int
    name: str
    path: str
    to: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.path}" + (f" -> {self.to}" if self.to is not None else "")


class Ended(NamedTuple):
    """How the process ended (a negative number: by which signal), and the calls that it came to, the one that killed it included."""

    exit_code: int
    calls: list[Call]


def run(work: Callable[[], int], root: str, decide: Callable[[Call], Decision]) -> Ended:
    """Fork, run `work` (which gives the exit code), and ask `decide` before each call that changes something below `root`."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(work, theirs)
    theirs.close()
    with ours:
        _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        calls = _watch(pid, listener, os.path.realpath(root), decide)
    finally:
        os.close(listener)
        _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), calls)


def plainly(work: Callable[[], int]) -> int:
    """The same without watching; returns the exit code."""
    pid = os.fork()
    if pid == 0:
        _work(work)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child(work: Callable[[], int], theirs: socket.socket) -> None:
    listener = install()
    socket.send_fds(theirs, [b"!"], [listener])
    os.close(listener)
    theirs.close()
    _work(work)


def _work(work: Callable[[], int]) -> None:
    code = 70
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def install() -> int:
    """Bind this process, and all that it will start, to asking; returns the descriptor at which it asks."""
    machine = platform.machine()
    numbers = [row[_MACHINES[machine]] for row in _CALLS.values()]
    steps = [struct.pack("=HBBI", _LOAD, 0, 0, 0)]
    for number in (number for number in numbers if number >= 0):
        steps += [struct.pack("=HBBI", _IF_EQUAL, 0, 1, number), struct.pack("=HBBI", _RETURN, 0, 0, _ASK)]
    steps.append(struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(steps), 8 * len(steps))
    filter_ = struct.pack("@HxxxxxxP", len(steps), ctypes.addressof(program))
    prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1))
    set_filter, with_listener = ctypes.c_ulong(1), ctypes.c_ulong(1 << 3)
    return syscall(_SECCOMP[machine], set_filter, with_listener, ctypes.c_char_p(filter_))


def _watch(pid: int, listener: int, root: str, decide: Callable[[Call], Decision]) -> list[Call]:
    calls: list[Call] = []
    names = {row[_MACHINES[platform.machine()]]: name for name, row in _CALLS.items()}
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    try:
        while True:
            ready = dict(poll.poll())
            if not ready.get(listener, 0) & select.POLLIN:
                return calls
            buffer = bytearray(_NOTIFICATION.size)
            try:
                fcntl.ioctl(listener, _RECEIVE, buffer)
            except FileNotFoundError:
                continue  # whoever asked is dead
            id, asking, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
            call = _seen(len(calls) + 1, asking, names[number], arguments, root)
            decision = None
            if call is not None:
                calls.append(call)
                decision = decide(call)
            if decision == KILL:
                os.kill(pid, signal.SIGKILL)
                return calls
            if decision == KILL_CALLER:
                os.kill(asking, signal.SIGKILL)
                continue
            answer = _RESPONSE.pack(id, 0, *((-decision, 0) if decision else (0, _CONTINUE)))
            try:
                fcntl.ioctl(listener, _SEND, answer)
            except FileNotFoundError:
                continue
    finally:
        os.close(pidfd)


def _seen(number: int, pid: int, name: str, arguments: list[int], root: str) -> Call | None:
    """The call, where it changes something below `root`."""
    _, _, kind, at, path_at = _CALLS[name]
    if kind == "fd":
        path, to = _descriptor(pid, arguments[0]), None
    else:
        assert path_at is not None
        if name in ("open", "openat") and not arguments[path_at + 1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return None
        path, to = _path(pid, at, path_at, arguments), None
        if name.startswith(("rename", "link")):
            second = path_at + (1 if at is None else 2)
            to = _path(pid, None if at is None else second - 1, second, arguments)
    if path != root and not path.startswith(f"{root}/"):
        return None
    return Call(number, pid, name, os.path.relpath(path, root), os.path.relpath(to, root) if to is not None else None)


def _path(pid: int, folder_at: int | None, at: int, arguments: list[int]) -> str:
    text = os.fsdecode(_string(pid, arguments[at]))
    if os.path.isabs(text):
        return os.path.normpath(text)
    folder = ctypes.c_int(arguments[folder_at]).value if folder_at is not None else _AT_FDCWD
    base = os.readlink(f"/proc/{pid}/cwd") if folder == _AT_FDCWD else _descriptor(pid, folder)
    return os.path.normpath(os.path.join(base, text))


def _descriptor(pid: int, fd: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{ctypes.c_int(fd).value}")
    except OSError:
        return ""


def _string(pid: int, address: int) -> bytes:
    found = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while b"\0" not in found:
            at = address + len(found)
            memory.seek(at)
            found += memory.read(mmap.PAGESIZE - at % mmap.PAGESIZE)  # no further: the next page may not be there
    return found.partition(b"\0")[0]
