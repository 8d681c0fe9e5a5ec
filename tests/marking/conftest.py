from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SMALLEST = """
[rubric]
schema = "fifomark.rubric/1"
id = "toy"
title = "Toy"
[task]
num_classes = 3
[model]
families = ["logistic", "mlp"]
[input]
shape = [4]
[data]
path = "toy.npz"
sha256 = "{sha256}"
"""
RubricWriter = Callable[..., Path]


@pytest.fixture
def write_rubric(tmp_path: Path) -> RubricWriter:
    """Writes the smallest rubric with its data; `changes` replace parts of its text, `more` comes after it."""

    def write(more: str = "", *, changes: dict[str, str] | None = None, **arrays: object) -> Path:
        rng = np.random.default_rng(0)
        data = {"x": rng.normal(size=(30, 4)).astype(np.float32), "y": np.arange(30) % 3} | arrays
        np.savez(tmp_path / "toy.npz", **data)  # type: ignore[arg-type]
        text = SMALLEST.replace("{sha256}", hashlib.sha256((tmp_path / "toy.npz").read_bytes()).hexdigest()) + more
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "rubric.toml").write_text(text)
        return tmp_path

    return write
