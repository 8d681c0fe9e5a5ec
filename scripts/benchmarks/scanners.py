"""This project's attacks, honest files and files of broken numbers, as picklescan, modelscan, fickling and torch's own loader see them.

Prints a Markdown table. What counts, for every tool alike:

noticed   a hostile or broken file at which the tool stops: it says that something is wrong, or cannot read it (scanning/probe.py says
          by which answer of which tool). A file that takes longer than the limit is not noticed: nobody waits for ever.
passed    an honest file at which the tool does not stop.
seconds   the median of one honest file, asked within a running process: starting the command is not counted.

The scanners are installed into an environment of their own that is thrown away: their pins and ours do not go together. No file is
ever loaded with weights_only=False.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from scanning import files
from scanning.asking import ROOT, Probe

SCANNERS = ("picklescan", "modelscan", "fickling")
NUMBERS = "FM4"  # codes of findings on numbers


def pinned() -> list[str]:
    """The scanners' pins: those of the extra `scanners`."""
    import tomllib

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra: list[str] = project["optional-dependencies"]["scanners"]
    return extra


def scanners_python(folder: Path) -> Path:
    """A Python that has the scanners."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *pinned()], check=True)
    return folder / "bin" / "python"


def share(answers: Iterable[bool]) -> str:
    listed = list(answers)
    return f"{100 * sum(listed) / len(listed):.0f} %"


def noticed(tool: str, kind: str, answer: dict[str, Any]) -> bool:
    """Numbers are noticed also where they only make a finding of that kind; only fifomark has such."""
    return answer["stops"] or (kind == "numbers" and tool == "fifomark" and NUMBERS in answer["why"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="that a tool may take for one file")
    parser.add_argument("--misses", action="store_true", help="also list what each tool misses and refuses, on stderr")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "files").mkdir()
        (folder / "leavings").mkdir()
        marker = folder / "RAN"
        made = files.written(folder / "files", marker)
        theirs = scanners_python(folder / "environment")
        rows = []
        for tool in (*SCANNERS, "weights_only", "fifomark"):
            probe = Probe(tool, theirs if tool in SCANNERS else Path(sys.executable), options.seconds, folder / "leavings")
            answers = {kind: {name: probe.ask(path) for name, path in listed.items()} for kind, listed in made.items()}
            probe.close()
            right = {
                kind: {name: noticed(tool, kind, answer) == (kind != "honest") for name, answer in by_name.items()}
                for kind, by_name in answers.items()
            }
            seconds = statistics.median(answer["seconds"] for answer in answers["honest"].values())
            rows.append([title(tool, theirs), *(share(right[kind].values()) for kind in made), f"{seconds * 1e3:.1f} ms"])
            if options.misses:
                for kind, by_name in right.items():
                    for name in (name for name, is_right in by_name.items() if not is_right):
                        print(f"{tool}: {kind}: {name}: {answers[kind][name]['why']}", file=sys.stderr)
        heads = ["", *(f"{len(listed)} {HEADS[kind]}" for kind, listed in made.items()), "one honest file"]
        for row in (heads, ["---"] * len(heads), *rows):
            print(f"| {' | '.join(row)} |")
        print(f"\nPayloads that ran: {'one or more' if marker.exists() else 'none'}")


HEADS = {
    "calls": "forbidden calls: noticed",
    "attacks": "named attacks: noticed",
    "honest": "honest files: passed",
    "numbers": "files of broken numbers: noticed",
}


def title(tool: str, theirs: Path) -> str:
    if tool == "fifomark":
        return "**fifomark**"
    if tool == "weights_only":
        return f"torch {importlib.metadata.version('torch').partition('+')[0]}, `weights_only=True`"
    say = f"import importlib.metadata; print(importlib.metadata.version({tool!r}))"
    version = subprocess.run([theirs, "-c", say], check=True, capture_output=True, text=True).stdout.strip()
    return f"{tool} {version}"


if __name__ == "__main__":
    main()
