"""One process that makes mutants and checks them, and says of each what came of it. Whoever started it watches it and outlives it."""

from __future__ import annotations

import io
import json
import mmap
import resource
import signal
import struct
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from fifomark.torchfile.source import place_of
from fuzzing.mutants import mutant
from fuzzing.oracle import Oracle, Wrong

SPARE_BYTES = 1 << 30  # of memory, beyond what torch takes: a mutated pickle asks for any amount
THOROUGHLY = 25  # every so many mutants the sandboxed parser is asked as well
_STAGE = struct.Struct("<Q64s")


class Board:
    """What a worker is at, where its watcher can read it when the worker cannot be asked any more."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _STAGE.size)

    def write(self, number: int, stage: str) -> None:
        self._shared[:] = _STAGE.pack(number, stage.encode()[:64])

    def read(self) -> tuple[int, str]:
        number, stage = _STAGE.unpack(self._shared[:])
        return number, stage.rstrip(b"\0").decode()


def work(seed: str, numbers: range, folder: Path, answers: Connection, board: Board) -> None:
    """Check the mutants of these numbers; one line of JSON for each goes to `answers`: [number, verdict, codes, what is wrong]."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    sys.stderr = io.StringIO()  # Python itself complains of byte arrays that a broken pickle left half made
    torch.set_num_threads(1)
    _limit_memory()
    number, marker = numbers.start, folder / "marker"
    oracle = Oracle(folder, marker, lambda stage: board.write(number, stage))
    for number in numbers:
        board.write(number, "making it")
        answers.send_bytes(json.dumps([number, *_outcome(oracle, seed, number, marker)]).encode())
    oracle.close()


def _outcome(oracle: Oracle, seed: str, number: int, marker: Path) -> tuple[str, list[str], str | None]:
    how = "it could not be made"
    try:
        made = mutant(seed, number, str(marker))
        how = made.how
        seen = oracle.check(made.body, hostile=made.hostile, thoroughly=number % THOROUGHLY == 0)
    except Wrong as e:
        return "wrong", [], f"{e} ({how})"
    except Exception as e:
        return "wrong", [], f"{place_of(e)}: {e} ({how})"
    return seen.verdict.value, sorted({finding.code for finding in seen.findings}), None


def _limit_memory() -> None:
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE_BYTES, taken + SPARE_BYTES))
