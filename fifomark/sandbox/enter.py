"""The policies that processes lock themselves down with, and doing it."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from fifomark.sandbox import landlock, seccomp
from fifomark.sandbox.syscalls import numbers, prctl

Strictness = Literal["auto", "required", "best-effort", "off"]
_PR_SET_NO_NEW_PRIVS = 38

# What a Python that reads open descriptors, computes and writes to a pipe needs. No path, no socket, no process, no signal.
READING = (
    *("read", "pread64", "write", "lseek", "close", "fstat", "newfstatat"),
    *("mmap", "munmap", "mremap", "mprotect", "brk", "madvise"),
    *("futex", "sched_yield", "getpid", "gettid", "clock_gettime", "getrandom"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group"),
)
# What a server needs besides that takes descriptors over its socket, forks readers and waits for them.
FORKING = (
    *READING,
    *("recvmsg", "sendmsg", "sendto", "poll", "ppoll"),
    *("clone", "clone3", "fork", "getppid", "set_robust_list", "rseq", "wait4", "waitid", "pidfd_open", "pidfd_send_signal"),
    *("prctl", "setrlimit", "prlimit64", "socketpair"),
)
# What a writer needs besides that is handed descriptors to read and to write, asks a server, and hashes in threads.
WRITING = (
    *READING,
    *("recvmsg", "recvfrom", "sendmsg", "sendto", "poll", "ppoll", "pipe2"),
    *("pwrite64", "sync_file_range", "memfd_create"),
    *(seccomp.THREADS, "set_robust_list", "rseq"),
)
# What torch needs besides to run a stranger's model: memory that it writes machine code to (oneDNN and quantised layers do), threads, time.
RUNNING = (
    seccomp.TRAPS,
    seccomp.MACHINE_CODE,
    *READING,
    *(seccomp.THREADS, "set_robust_list", "rseq"),
    *("sched_getaffinity", "getcpu", "nanosleep", "clock_nanosleep", "sysinfo", "uname", "getrusage"),
)


class InForce(NamedTuple):
    """What binds this process: the version of Landlock (0: none), and whether seccomp does."""

    landlock: int
    seccomp: bool

    @property
    def words(self) -> str:
        kinds = (f"Landlock {self.landlock}" if self.landlock else "", "seccomp" if self.seccomp else "")
        return " and ".join(filter(None, kinds)) or "none"


def available() -> InForce:
    """What the running kernel offers."""
    return InForce(landlock.version(), numbers(os.uname().machine) is not None)


def enter(calls: tuple[str, ...], strictness: Strictness) -> InForce:
    """Lock this process down, for good: no path can be opened any more, and of the system calls only `calls` are left.

    It must not have started a thread yet: RuntimeError. Those that it starts later are bound as well.

    "required": OSError unless both can be had. "auto": OSError only where the kernel offers one and it cannot be entered.
    "best-effort": whatever can be had. "off": nothing.
    """
    if strictness == "off":
        return InForce(0, False)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{threads} threads run already: the sandbox would bind one of them only")
    offered = available()
    if strictness == "required" and not all(offered):
        raise OSError(f'sandbox = "required", but this machine offers {offered}')
    entered = InForce(0, False)
    try:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if offered.landlock:
            landlock.forbid_everything()
            entered = InForce(offered.landlock, False)
        if offered.seccomp:
            seccomp.install(seccomp.compiled(calls))
            entered = InForce(entered.landlock, True)
    except OSError:
        if strictness != "best-effort":
            raise
    return entered


class Narrowing:
    """Leaving still fewer system calls in a process that has entered. Made before that: afterwards not even the machine can be asked."""

    def __init__(self, calls: tuple[str, ...]) -> None:
        self._program = seccomp.compiled(calls) if available().seccomp else b""

    def enter(self, entered: InForce) -> None:
        """OSError where it cannot be done."""
        if entered.seccomp:
            seccomp.install(self._program)
