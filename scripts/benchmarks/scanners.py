"""fifomark beside other scanners, over this project's own attacks, honest files, and files with broken values. Prints a Markdown table.

The others are installed, pinned, into an environment that is thrown away: they ask for other versions of what we use. What counts as
noticed is said in scanner_runner.py. Payloads touch a file; no file is loaded with weights_only=False.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tests"), str(HERE.parents[1] / "tests" / "attacks")]

import honest  # noqa: E402
import test_recall  # noqa: E402
import test_verdicts  # noqa: E402
import torch  # noqa: E402
from callables import CALLABLES  # noqa: E402
from torch import nn  # noqa: E402

import fifomark  # noqa: E402
from fifomark.core.findings import Verdict  # noqa: E402
from fifomark.sanitizer.sanitizer import Sanitizer  # noqa: E402

SCANNERS = {"picklescan": "1.0.5", "modelscan": "0.8.8", "fickling": "0.1.12"}
SETS = ("attacks", "honest", "broken")


def attacks(marker: Path) -> Iterator[bytes]:
    """Every way round a scanner, every opcode in every place, and every callable once."""
    for attack in test_verdicts.ATTACKS.values():
        if attack.verdict is Verdict.UNSAFE:
            yield attack.body(marker)
    touch = test_recall.b.text(f"touch {marker}")
    for place in test_recall.PLACES.values():
        for opcode in test_recall.OPCODES.values():
            yield place(opcode("posix.system").replace(test_recall.ARGUMENT, touch))
    for name in CALLABLES:
        yield test_recall.zipped(test_recall.b.call(name, touch) + test_recall.POP + test_recall.WEIGHTS)


def honest_files() -> Iterator[bytes]:
    for name, make in honest.SHAPES.items():
        for zipped in (True, False):
            if zipped or name not in honest.NEWER:
                yield honest.saved(make()[0], zipped=zipped)


def broken_files() -> Iterator[bytes]:
    """One model each time, with something wrong in its numbers."""

    def changed(name: str, index: object, value: float, dtype: torch.dtype = torch.float32) -> bytes:
        torch.manual_seed(1)
        weights = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)).state_dict()
        number = weights[name].to(torch.float32)
        number[index] = value
        return honest.saved({**weights, name: number.to(dtype)})

    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2):
        for value in (float("nan"), float("inf"), float("-inf")):
            yield changed("3.weight", (2, 3), value, dtype)
    yield changed("1.running_var", 3, -1.0)
    yield changed("1.running_var", 3, 0.0)
    yield changed("3.weight", slice(None), 0.0)
    yield changed("3.weight", slice(None), 0.5)
    yield changed("3.weight", (2, 3), 1e20)
    yield changed("3.weight", slice(0, 5), 0.0)
    yield changed("3.weight", (slice(None), slice(0, 9)), 1e-40)


def ours(folder: Path) -> dict[str, tuple[bool, float]]:
    """Noticed: anything that flags or refuses the file."""
    seen = {}
    with Sanitizer() as sanitizer:
        for path in sorted(folder.iterdir()):
            start = time.perf_counter()
            verdict = sanitizer.inspect(path).verdict
            refused = verdict.refuses or (folder.name == "broken" and verdict is Verdict.FLAGGED)
            seen[path.name] = (refused, time.perf_counter() - start)
    return seen


def theirs(python: Path, scanner: str, folder: Path) -> dict[str, tuple[bool, float]]:
    command = [python, HERE / "scanner_runner.py", scanner, folder]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: (noticed, taken) for name, noticed, taken in map(json.loads, out.splitlines())}


def row(label: str, seen: dict[str, dict[str, tuple[bool, float]]]) -> str:
    share = {name: statistics.mean(noticed for noticed, _ in files.values()) for name, files in seen.items()}
    times = [taken for files in seen.values() for _, taken in files.values()]
    cells = (f"{share['attacks']:.1%}", f"{1 - share['honest']:.1%}", f"{share['broken']:.0%}")
    return f"| {label} | {' | '.join(cells)} | {statistics.median(times) * 1e3:.1f} ms | {max(times):.1f} s |"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        marker = root / "RAN"
        for name, files in zip(SETS, (attacks(marker), honest_files(), broken_files()), strict=True):
            (root / name).mkdir()
            for i, body in enumerate(files):
                (root / name / f"{i:05d}.pt").write_bytes(body)
        counts = [len(list((root / name).iterdir())) for name in SETS]
        print("installing the other scanners", file=sys.stderr)
        venv.create(root / "venv", with_pip=True)
        python = root / "venv" / "bin" / "python"
        pinned = [f"{name}=={version}" for name, version in SCANNERS.items()]
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned], check=True)
        print(
            f"| | of {counts[0]:,} attacks noticed | of {counts[1]} honest files passed | of {counts[2]} with broken values noticed |",
            end="",
        )
        print(" a file, median | longest |\n|---|---|---|---|---|---|")
        print(row(f"fifomark {fifomark.__version__}", {name: ours(root / name) for name in SETS}), flush=True)
        for scanner, version in SCANNERS.items():
            print(row(f"{scanner} {version}", {name: theirs(python, scanner, root / name) for name in SETS}), flush=True)
        alone = {name: theirs(Path(sys.executable), "weights_only", root / name) for name in SETS}
        print(row(f"torch {torch.__version__.split('+')[0]}, weights_only=True", alone))
        assert not marker.exists(), "a payload ran"


if __name__ == "__main__":
    main()
