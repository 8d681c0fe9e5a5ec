"""Landlock: from here on no path can be opened, no TCP port bound or connected, no process outside the sandbox signalled.

Kernel documentation: Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct

from fifomark.sandbox.syscalls import syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every machine
_ASK_VERSION = 1

# By version of the interface: how many of the file system's rights there are, of the network's, and of the scopes.
_RIGHTS = {1: (13, 0, 0), 2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}


def version() -> int:
    """The version of Landlock that the running kernel has; 0 where it has none, or it is switched off."""
    try:
        return syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    except OSError:
        return 0


def forbid_everything() -> None:
    """Handle every right that the kernel knows, and grant none. OSError where it cannot be done."""
    known = min(version(), max(_RIGHTS))
    if known == 0:
        raise OSError("this kernel has no Landlock")
    masks = [(1 << count) - 1 for count in _RIGHTS[known]]
    attributes = struct.pack("=3Q", *masks)[: 8 if known < 4 else 16 if known < 6 else 24]
    ruleset = syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
