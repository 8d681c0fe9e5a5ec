"""Models whose forward pass fails on the task's data, and what their submitters are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from submitting import outcome_of, refused
from torch import nn

from fifomark.core.outcome import Refused
from fifomark.marking.mishaps import explained

RubricWriter = Callable[..., Path]
TOKENS = {
    'families = ["logistic", "mlp"]': 'families = ["rnn"]',
    "shape = [4]": 'shape = [6]\ndtype = "int64"',
}


class Tagger(nn.Module):
    """Classes of sequences of 10 words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.rnn = nn.GRU(8, 16, batch_first=True)
        self.out = nn.Linear(16, 3)


def told(rubric: Path) -> tuple[str, str]:
    """(message, advice) of what a Tagger is refused for."""
    torch.manual_seed(0)
    outcome = outcome_of(Tagger(), rubric)
    ((code, message),) = refused(outcome)
    assert code == "FM603"
    assert isinstance(outcome, Refused)
    return message, outcome.findings[0].advice


def test_a_vocabulary_that_is_larger_than_the_models_is_named(write_rubric: RubricWriter) -> None:
    tokens = np.full((30, 6), 9)
    tokens[0, 2] = 12
    message, advice = told(write_rubric(x=tokens, changes=TOKENS))
    assert message == "the data has 12 in it, and the model's embedding embedding has 10 rows, for 0 to 9"
    assert "13 tokens at least" in advice


def test_inputs_that_are_no_tokens_are_the_tasks_to_declare(write_rubric: RubricWriter) -> None:
    changes = TOKENS | {"shape = [4]": "shape = [6]"}
    message, advice = told(write_rubric(x=np.ones((30, 6), np.float32), changes=changes))
    assert "an embedding (embedding), which takes whole numbers; the task gives float32" in message
    assert 'dtype = "int64"' in advice


def of(model: nn.Module, *inputs: torch.Tensor) -> str:
    """What is said of the error that the model itself raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (torch's own, whichever)
        model(*inputs)
    return explained(raised.value, model, inputs).message


class Positions(nn.Module):
    """Adds an embedding of positions, from `first` on, to one of ten words."""

    def __init__(self, rows: int, first: int = 0, words: int = 10) -> None:
        super().__init__()
        self.word, self.position, self.first = nn.Embedding(words, 8), nn.Embedding(rows, 8), first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = self.word(x) + self.position(torch.arange(x.shape[1]) + self.first)
        return summed


def test_examples_that_are_longer_than_the_model_has_positions_are_told_as_that() -> None:
    said = "the examples are 6 long, and the model's embedding position has 4 rows"
    assert of(Positions(4), torch.full((2, 6), 3)) == said
    assert of(Positions(4, words=1000), torch.full((2, 6), 999)) == said  # the largest token is no row of that one


def test_a_row_that_no_input_explains_is_told_as_it_is_asked_for() -> None:
    assert of(Positions(7, first=6), torch.full((2, 6), 6)) == "the model asks its embedding position for row 11, and it has 7"
    assert of(Positions(7, first=-2), torch.full((2, 6), 6)) == "the model asks its embedding position for row -2, and it has 7"


def test_another_index_error_is_told_as_it_was_raised() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x[[10]]

    model = nn.Sequential(nn.Embedding(10, 8))
    model.forward = forward  # type: ignore[method-assign]
    assert of(model, torch.zeros(2, 6, dtype=torch.int64)).startswith("the forward pass raised IndexError: index 10 is out of bounds")


def test_what_has_nothing_to_do_with_embeddings_is_told_in_its_first_line() -> None:
    said = of(nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 2)), torch.ones(2, 4))
    assert said == "the forward pass raised RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 5x2)"
