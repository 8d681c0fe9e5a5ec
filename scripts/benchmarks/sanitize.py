"""What sanitizing costs: one small file, small ones in batches, a thousand by one command, and a large one against the plain torch way.

Every figure is a ratio to, or stands beside, something measured in the same run, in turn: these machines are noisy.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import nn

from fifomark.core.policy import Isolation
from fifomark.sanitizer.sanitizer import Job, Sanitizer

FILES = 1000


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def round_trip(source: Path, target: Path) -> None:
    """What a careful user does without us: hash, load, look at every value, save, make it last."""
    with source.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    weights = torch.load(source, weights_only=True)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    torch.save(weights, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def small_model(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 28)).state_dict()


def small(folder: Path, times: int = 400) -> None:
    """One after another, each from its path to its clean file, fsynced."""
    source, target = folder / "small.pt", folder / "small.clean.pt"
    torch.save(small_model(0), source)
    taken: dict[str, list[float]] = {"auto": [], "off": [], "torch": []}
    with Sanitizer(sandbox="auto") as locked, Sanitizer(sandbox="off") as free:
        for _ in range(times):
            taken["auto"].append(seconds(lambda: locked.inspect(source, clean_to=str(target))))
            taken["off"].append(seconds(lambda: free.inspect(source, clean_to=str(target))))
            taken["torch"].append(seconds(lambda: round_trip(source, target)))
        alone = [seconds(lambda: locked.inspect(source, clean_to=str(target))) for _ in range(times)]
    auto, off, plain, alone_ = (statistics.median(figures[5:]) * 1e3 for figures in (*taken.values(), alone))
    print(f"{source.stat().st_size:,} bytes, one after another, medians of {times}: {alone_:.2f} ms")
    print(f"  in turn with others: {auto:.2f} ms sandboxed, {off:.2f} ms not (ratio {auto / off:.2f}),")
    print(f"  {plain:.2f} ms for the plain torch round trip (ratio {auto / plain:.2f})")


def batches(folder: Path, times: int = 5) -> None:
    """The same in batches: a file each of its own."""
    jobs = []
    for i in range(160):
        torch.save(small_model(i), folder / f"batch{i}.pt")
        jobs.append(Job(folder / f"batch{i}.pt", clean_to=str(folder / f"batch{i}.clean")))
    figures: dict[Isolation, list[float]] = {isolation: [] for isolation in Isolation}
    for _ in range(times):
        for isolation, taken in figures.items():
            with Sanitizer(isolation=isolation) as sanitizer:
                list(sanitizer.inspect_all(jobs[:32]))
                taken.append(seconds(lambda: list(sanitizer.inspect_all(jobs))) / len(jobs) * 1e3)
    alone, together = (statistics.median(taken) for taken in figures.values())
    print(f"{len(jobs)} such files at once, medians of {times}: {alone:.2f} ms a piece in a process each, {together:.2f} ms in batches")


def thousand(folder: Path, times: int = 5) -> None:
    """Whole commands over the same files, in turn."""
    many = folder / "many"
    many.mkdir()
    for i in range(FILES):
        torch.save(small_model(i), many / f"{i}.pt")
    files = sorted(map(str, many.iterdir()))
    here = Path(sys.executable).parent
    commands = {
        "fifomark inspect --isolation batch": [here / "fifomark", "inspect", "--isolation", "batch", *files],
        "fifomark inspect": [here / "fifomark", "inspect", *files],
        "picklescan": [here / "picklescan", "-p", many],
    }
    commands = {name: command for name, command in commands.items() if Path(command[0]).exists()}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            taken[name].append(seconds(partial(subprocess.run, command, stdout=subprocess.DEVNULL, check=True)))
    base = statistics.median(taken.get("picklescan", [float("nan")]))
    print(f"{FILES:,} files of {Path(files[0]).stat().st_size:,} bytes, one command, medians of {times}:")
    for name, figures in taken.items():
        print(f"  {statistics.median(figures):.2f} s {name} (ratio to picklescan {statistics.median(figures) / base:.2f})")


def large(folder: Path, megabytes: int, times: int = 3) -> None:
    source, target = folder / "large.pt", folder / "large.clean.pt"
    torch.save({f"layer{i}.weight": torch.randn(1024, 2048) for i in range(megabytes // 8)}, source)
    ratios = []
    with Sanitizer() as sanitizer:
        for _ in range(times):
            ours = seconds(lambda: sanitizer.inspect(source, clean_to=str(target)))
            target.unlink()
            plain = seconds(lambda: round_trip(source, target))
            target.unlink()
            ratios.append(ours / plain)
            print(f"{megabytes} MB: {ours:.2f} s, plain torch round trip {plain:.2f} s, ratio {ratios[-1]:.2f}")
        writer = psutil.Process(sanitizer.pid)
        private = max(process.memory_full_info().uss for process in (writer, *writer.children())) >> 20
        status = Path(f"/proc/{writer.pid}/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) >> 10
    print(f"{megabytes} MB: median ratio {statistics.median(ratios):.2f}; memory {private} MB private, at its peak {peak} MB resident")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the large file")
    parser.add_argument("--only", choices=("small", "batches", "thousand", "large"), help="one part only")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[Path], None]] = {
        "small": small,
        "batches": batches,
        "thousand": thousand,
        "large": lambda folder: large(folder, chosen.megabytes),
    }
    with tempfile.TemporaryDirectory() as temporary:
        for name, part in parts.items():
            if chosen.only in (None, name):
                part(Path(temporary))
