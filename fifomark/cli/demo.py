"""`fifomark demo`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.exits import Exit, stopped_by
from fifomark.cli.progress import progress, queue_bar
from fifomark.core.errors import InternalError, UsageError
from fifomark.daemon.new import make_spool
from fifomark.demo import FILES
from fifomark.demo.bad import write_bad_files
from fifomark.reports import tables
from fifomark.spool.layout import Layout
from fifomark.spool.spool import drop


def demo(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to make the demo's spool; without it, a new temporary folder.")
    ] = None,
) -> int:
    from fifomark.cli.leaderboard import ranking
    from fifomark.daemon.look import look
    from fifomark.daemon.service import run

    spool = Path(tempfile.mkdtemp(prefix="fifomark-demo-")) / "spool" if folder is None else folder
    if not make_spool(spool):
        raise UsageError(f"{spool}: is a spool already; choose a new folder for the demo")
    layout = Layout(spool)
    with tempfile.TemporaryDirectory(prefix="fifomark-models-") as models:
        _train(models)
        marker = layout.root / "control" / "a-command-ran"
        write_bad_files(models, marker)
        for name in FILES:
            drop(layout, os.path.join(models, name), "")
    print(f"dropped into {layout.folder('incoming')}:")
    for name, what in FILES.items():
        print(f"  {name:26} {what}")
    with queue_bar() as on_turn:
        ending = run(spool, "drain", on_turn)
    if ending.signal is not None:
        return stopped_by(ending.signal)
    print(f"\n{tables.status(look(spool))}\n\n{tables.leaderboard(ranking(layout, 'digits'))}\n")
    print(f"Reports: {layout.folder('done')}/*.json and {layout.folder('rejected')}/*.json")
    print(f"Look at one: fifomark report mallory__surprise.pt --spool {spool}")
    if marker.exists():
        raise InternalError("the command in mallory__surprise.pt has run: please report this")
    print("The command in mallory__surprise.pt did not run.")
    return Exit.FINE


def _train(folder: str) -> None:
    """Train in a process of its own, which alone loads torch, and show how far it is."""
    # -P: a torch.py in the folder where somebody runs the demo is not ours to import.
    command = [sys.executable, "-P", "-m", "fifomark.demo.train", folder]
    with progress() as bar, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        task = bar.add_task("training", total=100)
        steps: dict[str, float] = {}
        for line in training.stdout:
            said = json.loads(line)
            steps[said["step"]] = said["done"]
            bar.update(task, description=f"training {said['step']}", completed=100 * sum(steps.values()) / 5)
    if training.returncode:
        raise InternalError(f"training the demo's models failed (exit code {training.returncode}); its own words stand above")
