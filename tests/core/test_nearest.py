from __future__ import annotations

import pytest

from fifomark.core.nearest import nearest

TASKS = ("multiclass-classification", "binary-classification", "multilabel-classification", "regression")


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("multiclass", TASKS, "multiclass-classification"),
        ("Multilabel", TASKS, "multilabel-classification"),
        ("regresion", TASKS, "regression"),
        ("gpu", ("auto", "cpu", "cuda"), "cuda"),
        ("GPU", ("auto", "cpu"), None),
        ("gpu", ("cpu",), "cpu"),
        ("CUDA", ("auto", "cpu", "cuda"), "cuda"),
        ("bf16", ("float32", "float64", "bfloat16"), "bfloat16"),
        ("pos", ("post", "position"), "post"),
        ("xyz", TASKS, None),
        ("", TASKS, None),
    ],
)
def test_what_was_meant_is_what_a_reader_would_say(name: str, known: tuple[str, ...], meant: str | None) -> None:
    assert nearest(name, known) == meant
