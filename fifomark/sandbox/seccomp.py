"""seccomp: a list of the system calls that are left; every other one fails with EPERM.

The filter is a classic BPF program, put together here: it is a few dozen instructions, and building it with libseccomp takes 3 ms.
Kernel documentation: Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Mapping

from fifomark.sandbox.syscalls import AUDIT_ARCH, numbers, prctl

_LOAD, _IF_EQUAL, _IF_ANY_BIT, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # x86-64's second table of calls, which no filter by number may forget
_PROT_EXEC = 4
_AF_UNIX = 1
_CLONE_THREAD = 0x00010000
_PR_SET_SECCOMP, _FILTER = 22, 2

# Calls that are allowed with one argument bound: (which argument, "no bits of", "bits of" or "exactly", value).
_BOUND = {
    "mmap": (2, "no bits of", _PROT_EXEC),
    "mprotect": (2, "no bits of", _PROT_EXEC),
    "prlimit64": (0, "exactly", 0),  # its own limits only
    "socketpair": (0, "exactly", _AF_UNIX),
}
THREADS = "threads"  # stands for: clone, for threads and no processes
MACHINE_CODE = "machine code"  # stands for: mmap and mprotect without their bounds
TRAPS = "traps"  # stands for: whoever tries what no computation does is killed by SIGSYS; there are ways to try it that hide a refusal

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OPENS = {"open": 1, "openat": 2}  # which argument has the flags
_NEVER = ("creat", "openat2", "socket", "connect", "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def compiled(calls: Iterable[str], machine: str | None = None) -> bytes:
    """The filter that leaves `calls`, for `machine` (this one). OSError where the machine's numbers are not known."""
    machine = machine or os.uname().machine
    known = numbers(machine)
    if known is None:
        raise OSError(f"the system calls of {machine} are not known here")
    code = [
        _step(_LOAD, _ARCH),
        _step(_IF_EQUAL, AUDIT_ARCH[machine], yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_IF_AT_LEAST, _X32, no=1),
        _step(_RETURN, _REFUSE),
    ]
    for name in calls:
        if name == THREADS:
            # clone3's flags lie in memory, where no filter sees them: without it the C library falls back to clone.
            code += [
                *_bound(known["clone"], 0, "bits of", _CLONE_THREAD),
                _step(_IF_EQUAL, known["clone3"], no=1),
                _step(_RETURN, _UNKNOWN),
            ]
        elif name == TRAPS:
            code += _traps(known)
        elif name == MACHINE_CODE:
            code += [*_allowed(known["mmap"]), *_allowed(known["mprotect"])]  # the first rule for a call decides
        elif name in known:
            code += _bound(known[name], *_BOUND[name]) if name in _BOUND else _allowed(known[name])
    return b"".join([*code, _step(_RETURN, _REFUSE)])


def install(program: bytes) -> None:
    """Bind this thread and all that it will start; there must be no other. Needs no-new-privileges. OSError where it cannot be done."""
    # The pointer must outlive the call, which `held` sees to.
    held = ctypes.create_string_buffer(program, len(program))
    filter_ = _Program(len(program) // 8, ctypes.cast(held, ctypes.c_char_p))
    prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(filter_))


def _allowed(number: int) -> list[bytes]:
    return [_step(_IF_EQUAL, number, no=1), _step(_RETURN, _ALLOW)]


def _traps(known: Mapping[str, int]) -> list[bytes]:
    code = [step for name in _NEVER if name in known for step in (_step(_IF_EQUAL, known[name], no=1), _step(_RETURN, _KILL))]
    for name, flags in _OPENS.items():
        if name in known:
            test = [_step(_LOAD, _ARGUMENTS + 8 * flags), _step(_IF_ANY_BIT, _WRITES, no=1), _step(_RETURN, _KILL), _step(_RETURN, _REFUSE)]
            code += [_step(_IF_EQUAL, known[name], no=len(test)), *test]
    return code


def _bound(number: int, argument: int, kind: str, value: int) -> list[bytes]:
    """The low half of the argument decides; the kernel takes these arguments as 32-bit ones."""
    load = _step(_LOAD, _ARGUMENTS + 8 * argument)
    jump = {
        "exactly": _step(_IF_EQUAL, value, no=1),
        "bits of": _step(_IF_ANY_BIT, value, no=1),
        "no bits of": _step(_IF_ANY_BIT, value, yes=1),
    }
    test = [jump[kind], _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]
    return [_step(_IF_EQUAL, number, no=1 + len(test)), load, *test]


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
