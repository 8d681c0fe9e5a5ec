"""Spools to torture, and what is dropped into them: tiny files of which it is known how each must end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random
from typing import NamedTuple

import builders
import numpy as np

from fifomark.daemon.new import make_spool

# How each kind must end: state, and the code of the reason.
ENDINGS = {
    "good": ("done", "marked"),
    "unsafe": ("rejected", "unsafe"),
    "broken": ("rejected", "invalid"),
    "misfit": ("rejected", "wrong-model"),
    "slow": ("failed", "limit-exceeded"),  # for judges that go by the name (torturing.judges)
}
MIXED = ("good", "good", "good", "good", "good", "good", "unsafe", "broken", "misfit")  # what comes, and how often

_RUBRIC = """
[rubric]
schema = "fifomark.rubric/1"
id = "tiny"
title = "Tiny"
[task]
num_classes = 3
[model]
families = ["logistic"]
[input]
shape = [4]
[data]
path = "tiny.npz"
sha256 = "{sha256}"
"""


class Dropped(NamedTuple):
    """A file as it was put into incoming/. Names are never used twice."""

    name: str
    kind: str
    sha256: str
    size: int

    @property
    def ending(self) -> tuple[str, str]:
        return ENDINGS[self.kind]


def new_spool(root: Path, **settings: object) -> Path:
    """A spool with one tiny rubric; `settings` replace lines of its fifomark.toml."""
    make_spool(root)
    rubric = root / "rubrics/tiny"
    rubric.mkdir()
    rng = np.random.default_rng(0)
    np.savez(rubric / "tiny.npz", x=rng.normal(size=(30, 4)).astype(np.float32), y=np.arange(30) % 3)
    (rubric / "rubric.toml").write_text(_RUBRIC.format(sha256=hashlib.sha256((rubric / "tiny.npz").read_bytes()).hexdigest()))
    _remove_tree(root / "rubrics/digits")
    settings = {"slots": ["cpu"], "settle_seconds": 0.0, "max_attempts": 1000, "min_free_bytes": 0} | settings | {"default_rubric": "tiny"}
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in settings.items())
    (root / "fifomark.toml").write_text(f'schema = "fifomark.settings/1"\n{lines}')
    return root


def drop(root: Path, kind: str, number: int, mtime: float | None = None, columns: int = 4) -> Dropped:
    """Put one file into incoming/ so that it appears there whole; its content is its own. More `columns` make it larger."""
    body = body_of(kind, number, columns)
    name = f"{kind}{number:06d}.pt"
    temporary = root / "incoming" / f".{name}.part"
    temporary.write_bytes(body)
    if mtime is not None:
        os.utime(temporary, (mtime, mtime))
    temporary.rename(root / "incoming" / name)
    return Dropped(name, kind, hashlib.sha256(body).hexdigest(), len(body))


def body_of(kind: str, number: int, columns: int = 4) -> bytes:
    shapes = {"weight": (3, columns + (kind == "misfit")), "bias": (3,)}
    match kind:
        case "unsafe":
            return builders.state_dict(shapes, number, (builders.text("x"), builders.touch(Path("/nowhere/RAN"))))
        case "broken":
            return builders.state_dict(shapes, number)[: -Random(number).randrange(30, 300)]
        case _:
            return builders.state_dict(shapes, number)


def _toml(value: object) -> str:
    match value:
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return str(value)


def _remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
