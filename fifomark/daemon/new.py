"""A new spool that works at once: folders, settings, and the example rubric with its data."""

from __future__ import annotations

import os
import shutil
from importlib.resources import as_file, files

from fifomark.core.errors import SpoolError
from fifomark.spool.spool import create

EXAMPLE = "digits"
_SETTINGS = """\
# The settings of this spool. Every key may be left out; what stands here is the default.
schema = "fifomark.settings/1"

# What models are marked on. "auto": one slot for each GPU or, where there is none, for each CPU core. Or name them (docs/slots.md):
# slots = ["cuda:0", "cuda:1"]      slots = ["cuda:0/2", "cuda:0/2"]  (two on one GPU)      slots = ["cpu:2", "cpu:2"]  (two threads each)
slots = "auto"

# What a file dropped into incoming/ is marked against. A file in incoming/NAME/ is marked against rubrics/NAME.
default_rubric = "digits"

# "mtime": first the oldest file, by its own time stamp. "arrival": first what came first, which nobody can forge.
order = "mtime"

# A file is taken once nobody has it open for writing and it has not changed for this many seconds.
settle_seconds = 0.2

# How the process that reads the files is locked down. "auto": with all that the kernel offers (Landlock, seccomp); "required": the start
# is refused where the kernel lacks one; "best-effort"; "off".
sandbox = "auto"

# "submission": each file is read by a process of its own. "batch": one process reads up to 120 small files, which is faster; a
# file that took over that process could misdescribe those read after it (no more: it still can open nothing and write nothing).
isolation = "submission"

# How often work that was lost through no fault of the submitter is tried.
max_attempts = 3

# Kinds of networks that plugins know (fifomark.families), for every rubric; one that a rubric names itself need not be here.
plugins = []

# A daemon that is told to stop gives what runs this many seconds to end; then it is put back, and costs nobody a try.
grace_seconds = 60.0

# Nothing new is taken while less than this is free on the spool's disk; without it, 1 GiB, or a twentieth of a small disk.
# min_free_bytes = 1_073_741_824

# What serve says on stderr: "text" or "json", an object a line.
log_format = "text"

[policy]
extensions = [".pt"]
# "reject" an unsafe file, or "disarm" it: take its weights, drop the rest, and flag it.
on_unsafe = "reject"

[limits]
file_bytes = 8589934592
mark_seconds = 300.0
mark_memory_bytes = 8589934592

# What is kept of submissions that have ended: all of it, where nothing is said. Reports stay, unless reports = true. (fifomark prune)
[retention]
# older_than_days = 30.0
# keep = 10_000
# max_bytes = 100_000_000_000
"""


def make_spool(root: str | os.PathLike[str]) -> bool:
    """Make a spool at `root`, or add what is missing to the one there; returns whether it is new. Nothing is overwritten.

    SpoolError where `root` is something else than an empty folder or a spool.
    """
    if os.path.lexists(root) and not os.path.isdir(root):
        raise SpoolError(f"{root}: is there already, and is no folder")
    if os.path.isdir(root) and os.listdir(root) and not os.path.exists(os.path.join(root, "fifomark.toml")):
        raise SpoolError(f"{root}: is a folder with other things in it; choose a new or an empty one")
    new = not os.path.exists(os.path.join(root, "fifomark.toml"))
    layout = create(root, _SETTINGS)
    target = layout.rubric(EXAMPLE)
    if new and not os.path.exists(target):
        with as_file(files("fifomark.examples") / EXAMPLE) as example:
            shutil.copytree(example, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "__init__.py"))
    return new
