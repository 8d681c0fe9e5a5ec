"""Honest files cut off anywhere and changed at random: each is described, quickly, by one process that lives on, in JSON that decodes."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from describing import codes, described
from fuzzing.bytewise import changed
from torch import nn

import fifomark
from fifomark.torchfile.description import Description, decode

MUTATIONS = 700  # of each kind of file, each way
SECONDS = 5.0  # for any one of them; those that ask for all the memory there is take up to one

# Describes the files whose paths it reads, and says of each how long it took. A changed pickle may ask for any amount of memory.
_READER = """
import base64, json, os, resource, sys, time
from fifomark.torchfile.describe import describe
from fifomark.torchfile.source import ParseLimits
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for line in sys.stdin:
    fd = os.open(line.strip(), os.O_RDONLY)
    started = time.monotonic()
    body = describe(fd, ParseLimits())
    print(json.dumps([time.monotonic() - started, base64.b64encode(body).decode()]))
    os.close(fd)
"""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@cache
def honest(kind: str) -> bytes:
    torch.manual_seed(0)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "torchscript":
            torch.jit.save(torch.jit.script(Net()), out)
        else:
            torch.save(Net() if kind == "module" else Net().state_dict(), out, _use_new_zipfile_serialization=kind != "legacy")
    return out.getvalue()


class Read(NamedTuple):
    seconds: float
    description: Description


def read_all(bodies: Iterable[bytes], folder: Path) -> list[Read]:
    """Describe them one after another in one child. That it comes to the end says that nothing raised."""
    paths = [folder / f"{i}.pt" for i, body in enumerate(bodies) if (folder / f"{i}.pt").write_bytes(body) >= 0]
    listed = "".join(f"{path}\n" for path in paths).encode()
    environment = {**os.environ, "PYTHONPATH": str(Path(fifomark.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", _READER], input=listed, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(paths)
    return [Read(seconds, decode(base64.b64decode(body))) for seconds, body in said]


def mutated_inside(body: bytes, rng: random.Random) -> bytes:
    """Bytes changed in a pickle of an archive, which is then packed again with the checksum that fits it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, changed(data, rng) if info.filename.endswith("data.pkl") else data)
    return out.getvalue()


def mutations(kind: str, way: Callable[[bytes, random.Random], bytes]) -> list[bytes]:
    rng = random.Random(f"{kind} {way.__name__}")
    return [way(honest(kind), rng) for _ in range(MUTATIONS)]


@pytest.mark.parametrize("kind", ["zip", "module", "legacy", "torchscript"])
def test_a_file_cut_off_anywhere_is_described_and_never_whole(kind: str, tmp_path: Path) -> None:
    body = honest(kind)
    assert codes(described(body)) == []
    cuts = sorted({*range(64), *range(64, len(body), 61), *range(len(body) - 64, len(body))})
    for length, read in zip(cuts, read_all((body[:cut] for cut in cuts), tmp_path), strict=True):
        assert read.description.container is None or codes(read.description), length
        assert read.seconds < SECONDS


@pytest.mark.parametrize("kind", ["zip", "legacy", "torchscript"])
def test_a_file_with_bytes_changed_at_random_is_described(kind: str, tmp_path: Path) -> None:
    expected = described(honest(kind))
    bodies = mutations(kind, changed)
    refused = 0
    for body, (seconds, seen) in zip(bodies, read_all(bodies, tmp_path), strict=True):
        assert seconds < SECONDS
        assert all(storage.start + storage.stored <= len(body) for storage in seen.storages)
        if seen.container is None or seen.problems:
            refused += 1
        elif kind != "legacy":  # checksums: what is read without a word is what was written
            assert (seen.groups, seen.tensors, seen.globals) == (expected.groups, expected.tensors, expected.globals)
    assert refused > MUTATIONS / 2


@pytest.mark.parametrize("kind", ["zip", "module", "torchscript"])
def test_an_archive_whose_pickle_was_changed_at_random_is_described(kind: str, tmp_path: Path) -> None:
    for seconds, seen in read_all(mutations(kind, mutated_inside), tmp_path):
        assert seconds < SECONDS
        assert seen.container in ("zip", "torchscript")
