"""Descriptions of bytes, for the tests of the parser."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fifomark
from fifomark.torchfile.describe import describe
from fifomark.torchfile.description import Description, Tensor, decode
from fifomark.torchfile.source import ParseLimits

_CHILD = """
import resource, sys
from fifomark.torchfile.describe import describe
from fifomark.torchfile.source import ParseLimits
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
sys.stdout.buffer.write(describe(0, ParseLimits()))
"""


def described(body: bytes, limits: ParseLimits | None = None) -> Description:
    """The description of a file of these bytes, strictly decoded."""
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        return decode(describe(file.fileno(), limits or ParseLimits()))


def described_in_a_child(body: bytes) -> Description:
    """The same, in a process that may use 1 GiB and 10 s: for bytes that ask for more."""
    root = str(Path(fifomark.__file__).parents[1])
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.seek(0)
        child = subprocess.run(
            [sys.executable, "-c", _CHILD], stdin=file, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": root}, timeout=60
        )
    return decode(child.stdout)


def codes(description: Description) -> list[str]:
    return [problem.code for problem in description.problems]


def calls(description: Description) -> list[str]:
    return [call.text for call in description.calls]


def tensors(description: Description) -> dict[str, Tensor]:
    """The named tensors of the only group that has any."""
    (group,) = [group for group in description.groups if group.entries]
    return {entry.name: description.tensors[entry.tensor] for entry in group.entries}


def uses(description: Description, name: str) -> set[str]:
    """How a global is used, other than by being named."""
    (found,) = [use for use in description.globals if use.name == name]
    return set(found.uses) - {"reference"}
