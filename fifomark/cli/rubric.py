"""`fifomark rubric check` and `fifomark rubric new`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import JsonOption
from fifomark.cli.output import json_line
from fifomark.cli.progress import pulsing
from fifomark.core.errors import UsageError
from fifomark.core.text import shown
from fifomark.sanitizer.opening import is_missing

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def check(
    rubric: Annotated[Path, typer.Argument(metavar="R", help="The rubric: its folder, or its rubric.toml.")],
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="A reference model, which should pass.")] = None,
    slot: Annotated[
        str | None, typer.Option(metavar="SLOT", help="Where to run: cpu, cpu:2 (two threads), cuda:0. The first found.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Read a rubric and its data, try its metrics, and mark a reference model and one that knows nothing."""
    from fifomark.daemon.single import Marker
    from fifomark.reports import checks

    if model is not None and is_missing(model):
        raise UsageError(f"{shown(str(model))}: no such file")
    with Marker(rubric, slot=slot) as marker:
        with pulsing("marking what knows nothing"):
            _, baseline = marker.baseline()
        reference = None
        if model is not None:
            with pulsing(f"marking {shown(model.name)}"):
                reference = marker.mark(model)
    seen = checks.conclude(baseline, reference)
    if json:
        json_line(seen)
    else:
        print(checks.table(seen))
    for problem in seen.problems:
        print(f"fifomark: {problem}", file=sys.stderr)
    return Exit.NO if seen.problems else Exit.FINE


@app.command()
def new(
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="Where to make it; rubrics/NAME of a spool, for one.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="The examples: .npz, .safetensors, .csv, .jsonl or .parquet.")] = None,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="A reference model: its family and shapes are taken from it.")] = None,
    input: Annotated[str | None, typer.Option(metavar="NAME", help="The array or column of the inputs. What is usual: x.")] = None,
    label: Annotated[str | None, typer.Option(metavar="NAME", help="The array or column of the labels. What is usual: y.")] = None,
) -> None:
    """Write a rubric for a data file: what can be told from the data and a reference model is filled in, the rest is marked.

    Without FOLDER or --data, in a terminal, it asks; little, and with a guess where there is one.
    """
    from fifomark.cli.dialogue import Asked, dialogue
    from fifomark.daemon.drafting import draft

    for file in (data, model):
        if file is not None and is_missing(file):
            raise UsageError(f"{shown(str(file))}: no such file")
    asked = Asked(folder, data, model, input, label)
    if folder is None or data is None:
        asked = dialogue(asked)
    assert asked.folder is not None
    assert asked.data is not None
    folder, model = asked.folder, asked.model
    made = draft(folder, asked.data, model, input=asked.input, label=asked.label, decide=asked.decide)
    print(f"wrote {shown(str(made.path))}")
    for question in made.questions:
        print(f"  look at {question}")
    print(f"then: fifomark rubric check {shown(str(folder))}" + (f" --model {shown(str(model))}" if model else ""))
