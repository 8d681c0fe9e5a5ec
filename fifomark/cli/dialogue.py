"""`fifomark rubric new` as a dialogue: what is missing is asked for, one line each, with the guess in brackets. Questions go to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import typer

from fifomark.core.errors import UsageError
from fifomark.core.text import shown
from fifomark.daemon.drafting import Decide, Question, check_free, columns
from fifomark.sanitizer.opening import is_missing

T = TypeVar("T")
_AGAIN = 5  # answers that are none, after which nobody is believed to be there


class Asked(NamedTuple):
    """What `rubric new` is told. `decide` is there where a person answers."""

    folder: Path | None
    data: Path | None
    model: Path | None
    input: str | None
    label: str | None
    decide: Decide | None = None


def dialogue(told: Asked) -> Asked:
    """The same with what was missing. UsageError where nobody sits there, or goes away."""
    if not sys.stdin.isatty():
        missing = " and ".join(name for name, given in (("FOLDER", told.folder), ("--data FILE", told.data)) if given is None)
        raise UsageError(f"rubric new: missing: {missing} (in a terminal they are asked for)")
    data = told.data or _asked("the examples (.npz, .safetensors, .csv, .jsonl, .parquet)", _file)
    seen = columns(data)
    names = ", ".join(map(shown, seen.names[:20]))
    label, input = told.label, told.input
    if label is None and seen.label is None:
        label = _asked(f"which {seen.noun} holds the labels ({names})", lambda text: _one_of(text, seen.names))
    if input is None and seen.input is None and seen.noun == "array":
        input = _asked(f"which {seen.noun} holds the inputs ({names})", lambda text: _one_of(text, seen.names))
    model = told.model or _asked("a reference model, which should pass (Enter: there is none)", _file_or_none, default="")
    folder = told.folder or _asked("where to make the rubric", _folder, default=str(Path("rubrics", data.stem)))
    return Asked(folder, data, model, input, label, _decide)


def _decide(question: Question) -> object:
    choice = f": {', '.join(_typed(value) for value in question.fact.allowed)}" if question.fact.allowed else ""
    return _asked(f"{question.name}, {question.fact.meaning}{choice}", question.answer, default=_typed(question.guess))


def _asked(what: str, understood: Callable[[str], T], default: str | None = None) -> T:
    """The first answer that `understood` takes; it raises UsageError for one that it does not."""
    for _ in range(_AGAIN):
        try:
            return understood(typer.prompt(what, default=default, err=True, show_default=bool(default)).strip())
        except UsageError as e:
            typer.echo(f"  {e}", err=True)
        except typer.Abort as e:
            raise UsageError("rubric new: stopped; nothing was written") from e
    raise UsageError("rubric new: no answer could be understood; nothing was written")


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if is_missing(path) or path.is_dir():
        raise UsageError(f"{shown(text)}: no such file")
    return path


def _file_or_none(text: str) -> Path | None:
    return _file(text) if text else None


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    check_free(folder)
    return folder


def _one_of(text: str, names: tuple[str, ...]) -> str:
    if text not in names:
        raise UsageError(f"{shown(text)}: is not there")
    return text


def _typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
