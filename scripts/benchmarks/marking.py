"""What marking costs on a slot: a small model in a worker that is warm, against the bare loop that marks the same file unsafely.

The bare loop loads the clean file, builds the same network, loads the weights strictly, runs it over the same data in the same batches and
asks the same torchmetrics classes for the same numbers. Both run in turn, in one process and one thread.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

import fifomark
from fifomark.core.outcome import Marked, MarkTicket
from fifomark.demo.train import CNN, mlp
from fifomark.marking.evaluation import Bench, evaluate
from fifomark.marking.rubric import rubric_sha256

DIGITS = Path(fifomark.__file__).parent / "examples" / "digits"
WARM_UP = 20


def bare(path: Path, build: Callable[[], nn.Module], x: Tensor, y: Tensor, batch: int = 64) -> list[float]:
    """The unsafe loop."""
    model = build()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    metrics = [MulticlassAccuracy(10, average="micro"), MulticlassF1Score(10, average="macro")]
    with torch.inference_mode():
        for at in range(0, len(y), batch):
            outputs = model(x[at : at + batch]).softmax(1)
            for metric in metrics:
                metric.update(outputs, y[at : at + batch])
    return [float(metric.compute()) for metric in metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(threads=1)
    with np.load(DIGITS / "data" / "digits.npz") as data:
        x, y = torch.from_numpy(data["x_test"]).float().unsqueeze(1) / 16, torch.from_numpy(data["y_test"])
    with tempfile.TemporaryDirectory() as temporary:
        for name, build in (("mlp", mlp), ("cnn", CNN)):
            path = Path(temporary, f"{name}.pt")
            torch.manual_seed(0)
            torch.save(build().state_dict(), path)
            ticket = MarkTicket(submission=1, path=str(path), rubric=str(DIGITS), rubric_sha256=rubric_sha256(DIGITS))
            outcome = evaluate(ticket, bench)
            assert isinstance(outcome, Marked), outcome
            if chosen.profile:
                profile = cProfile.Profile()
                profile.runcall(lambda ticket=ticket: [evaluate(ticket, bench) for _ in range(chosen.times)])
                pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
                continue
            compare(
                name, lambda ticket=ticket: evaluate(ticket, bench), lambda path=path, build=build: bare(path, build, x, y), chosen.times
            )


def compare(name: str, ours: Callable[[], object], plain: Callable[[], object], times: int) -> None:
    taken: list[tuple[float, float]] = []
    for _ in range(WARM_UP + times):
        started = perf_counter()
        ours()
        between = perf_counter()
        plain()
        taken.append((between - started, perf_counter() - between))
    marked, loop = (statistics.median(column) * 1e3 for column in zip(*taken[WARM_UP:], strict=True))
    ratio = statistics.median(one / other for one, other in taken[WARM_UP:])
    print(f"{name}: {marked:.2f} ms marked, {loop:.2f} ms in the bare loop, medians of {times}; median ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
