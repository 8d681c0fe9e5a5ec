"""A whole course: 2,000 small models of the digits, by `fifomark drain` on two CPU slots, against the unsafe loop that everybody writes.

The loop is one process that goes torch.load → load_state_dict → evaluate over the same files, with the same metrics on the same data. Both
are timed as whole commands, imports included. `fifomark drain` sandboxes every file, writes a clean one, keeps a durable ledger and writes
a report for each; once with one process for each submission, once with `isolation = "batch"`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIFOMARK = Path(sys.executable).parent / "fifomark"


def loop(folder: Path, spool: Path) -> None:
    """The unsafe loop."""
    import numpy as np
    import torch
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

    from fifomark.demo.train import mlp

    torch.set_num_threads(1)
    with np.load(spool / "rubrics/digits/data/digits.npz") as data:
        x, y = torch.from_numpy(data["x_test"]).float().unsqueeze(1) / 16, torch.from_numpy(data["y_test"])
    for path in sorted(folder.glob("*.pt")):
        model = mlp()
        model.load_state_dict(torch.load(path))
        model.eval()
        metrics = [MulticlassAccuracy(10, average="micro"), MulticlassF1Score(10, average="macro")]
        with torch.inference_mode():
            for at in range(0, len(y), 64):
                outputs = model(x[at : at + 64])
                for metric in metrics:
                    metric.update(outputs, y[at : at + 64])
        print(path.name, [float(metric.compute()) for metric in metrics])


def make(folder: Path, count: int) -> None:
    """Models that differ, so that none is a copy of another."""
    import torch

    from fifomark.demo.train import mlp

    for i in range(count):
        torch.manual_seed(i)
        path = folder / f"student{i:04d}.pt"
        torch.save(mlp().state_dict(), path)
        os.utime(path, ns=(i, 10**18 + i))


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def drain(root: Path, files: Path, isolation: str) -> float:
    subprocess.run([FIFOMARK, "init", str(root)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = root / "fifomark.toml"
    text = re.sub(r"(?m)^(slots|isolation) = .*\n", "", settings.read_text())
    schema, rest = text.split("\n", 1)
    settings.write_text(f'{schema}\nslots = ["cpu", "cpu"]\nisolation = "{isolation}"\n{rest}')
    subprocess.run(["cp", "-p", "-r", f"{files}/.", str(root / "incoming")], check=True)
    took = seconds([str(FIFOMARK), "drain", "--spool", str(root)])
    states = json.loads(subprocess.run([FIFOMARK, "status", "--json", "--spool", str(root)], check=True, capture_output=True).stdout)[
        "states"
    ]
    assert states["done"] == len(list(files.iterdir())), states
    return took


def stages(root: Path) -> str:
    """What share of the way each stage is, from the reports' timelines; and of the marking, what its worker says."""
    spans: dict[str, float] = {}
    for path in (root / "done").glob("*.json"):
        steps = json.loads(path.read_bytes())["timeline"]
        for one, two in itertools.pairwise(steps):
            taken = (_instant(two["at"]) - _instant(one["at"])) * 1e3
            spans[one["state"]] = spans.get(one["state"], 0.0) + taken
    total = sum(value for state, value in spans.items() if state != "queued")
    return ", ".join(f"{state} {100 * value / total:.0f} %" for state, value in spans.items() if state != "queued")


def _instant(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="how often all three are timed, in turn")
    parser.add_argument("--loop", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.loop:
        loop(*chosen.loop)
        return
    with tempfile.TemporaryDirectory() as temporary:
        files = Path(temporary, "files")
        files.mkdir()
        make(files, chosen.count)
        taken: dict[str, list[float]] = {"loop": [], "submission": [], "batch": []}
        for number in range(chosen.rounds):
            roots = {isolation: Path(temporary, f"{isolation}-{number}") for isolation in ("submission", "batch")}
            for isolation, root in roots.items():
                taken[isolation].append(drain(root, files, isolation))
            taken["loop"].append(seconds([sys.executable, __file__, "--loop", str(files), str(roots["batch"])]))
        plain = statistics.median(taken["loop"])
        print(f"{chosen.count} models; the unsafe loop: {plain:.1f} s, {chosen.count / plain:.0f} a second; medians of {chosen.rounds}")
        for isolation, asked in (("submission", 0.5), ("batch", 1.0)):
            took = statistics.median(taken[isolation])
            ratio = statistics.median(one / other for one, other in zip(taken["loop"], taken[isolation], strict=True))
            print(
                f"isolation {isolation}: {took:.1f} s, {chosen.count / took:.0f} a second, "
                f"{ratio:.2f} × the loop (asked: {asked}); {stages(roots[isolation])}"
            )


if __name__ == "__main__":
    main()
