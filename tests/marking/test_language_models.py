"""Decoders marked for every next token, by their family and by their own code, as a plain program would."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import GPT2, HEADS, WORDS
from submitting import evaluated, outcome_of, ran
from torchmetrics.text import Perplexity
from torchscripts import scripted

RubricWriter = Callable[..., Path]
FAMILY = f"""families = ["transformer"]
[model.transformer]
nhead = {HEADS}
activation = "gelu_tanh"
norm_first = true
causal = true
pooling = "none"
"""
CRITERION = """
[[criterion]]
id = "perplexity"
title = "Perplexity"
points = 1
metric = "perplexity"
scoring = { kind = "linear", from = 100.0, to = 1.0 }
"""


@pytest.mark.parametrize("way", ["family", "torchscript"])
def test_perplexity_is_that_of_a_plain_program(write_rubric: RubricWriter, way: str) -> None:
    torch.manual_seed(3)
    tokens = np.random.default_rng(0).integers(0, WORDS, (20, 9))
    rubric = write_rubric(
        CRITERION,
        x=tokens[:, :-1],
        y=tokens[:, 1:],
        changes={
            "num_classes = 3": f'type = "language-model"\nnum_classes = {WORDS}',
            'families = ["logistic", "mlp"]': FAMILY if way == "family" else "torchscript = true",
            "shape = [4]": 'shape = [8]\ndtype = "int64"',
        },
    )
    model = GPT2().eval()
    with torch.inference_mode():
        outputs = model(torch.from_numpy(tokens[:, :-1]))
    plain = Perplexity(ignore_index=-100)(outputs, torch.from_numpy(tokens[:, 1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls torch.jit old
        mark = evaluated(outcome_of(model, rubric) if way == "family" else ran(traced(model), rubric))
    (perplexity, *_) = mark.metrics
    assert perplexity.value == pytest.approx(float(plain), rel=1e-5)
    assert mark.source == ("family transformer" if way == "family" else "torchscript")


def traced(model: GPT2) -> bytes:
    return scripted(torch.jit.trace(model, torch.zeros(2, 8, dtype=torch.int64)))
