"""What sanitizing costs: one small file with and without the sandbox, and a large one against the plain torch round trip."""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fifomark.sanitizer.sanitizer import Sanitizer


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def round_trip(source: Path, target: Path) -> None:
    """What a careful user does without us: hash, load, look at every value, save, make it last."""
    hashlib.sha256(source.read_bytes()).hexdigest()
    weights = torch.load(source, weights_only=True)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    torch.save(weights, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def small(folder: Path, times: int = 300) -> None:
    source, target = folder / "small.pt", folder / "small.clean.pt"
    torch.save(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 28)).state_dict(), source)
    taken: dict[str, list[float]] = {"auto": [], "off": [], "torch": []}
    with Sanitizer(sandbox="auto") as locked, Sanitizer(sandbox="off") as free:
        for _ in range(times):
            taken["auto"].append(seconds(lambda: locked.inspect(source, clean_to=str(target))))
            taken["off"].append(seconds(lambda: free.inspect(source, clean_to=str(target))))
            taken["torch"].append(seconds(lambda: round_trip(source, target)))
    auto, off, plain = (statistics.median(taken[name][1:]) for name in ("auto", "off", "torch"))
    print(f"{source.stat().st_size} bytes, medians of {times}:")
    print(f"  {auto * 1e3:.2f} ms sandboxed, {off * 1e3:.2f} ms not (ratio {auto / off:.2f}),")
    print(f"  {plain * 1e3:.2f} ms for the plain torch round trip (ratio {auto / plain:.2f})")


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
    print(f"{megabytes} MB: median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256, help="size of the large file")
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as temporary:
        small(Path(temporary))
        large(Path(temporary), megabytes)
