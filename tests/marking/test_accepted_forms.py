from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from submitting import evaluated, outcome_of, refused
from torch import nn

from fifomark.marking.forms import not_accepted

ALL = ("state_dict", "checkpoint", "module", "torchscript")


def test_a_form_that_the_rubric_leaves_out_is_refused_in_words(write_rubric: Callable[..., Path]) -> None:
    folder = write_rubric("[submission]\naccept = ['state_dict', 'checkpoint']")
    evaluated(outcome_of(nn.Linear(4, 3), folder, form="checkpoint"))
    assert refused(outcome_of(nn.Linear(4, 3), folder, form="module")) == [
        (
            "FM507",
            "this is a whole model, torch.save(model, …); the task takes the weights alone, torch.save(model.state_dict(), …) "
            "or a checkpoint, with the weights in a dict beside other things",
        )
    ]


@pytest.mark.parametrize("wanted", ALL)
def test_the_advice_is_how_to_make_what_is_wanted(wanted: str) -> None:
    others = [form for form in ALL if form != wanted]
    advice = {not_accepted(form, (wanted,)).advice for form in others}  # type: ignore[arg-type, union-attr]
    assert len(advice) == 1
    assert {"state_dict": "save(model.state_dict(),", "checkpoint": "{'state_dict':", "module": "save(model,", "torchscript": "torch.jit"}[
        wanted
    ] in advice.pop()


@pytest.mark.parametrize("form", [None, *ALL])
def test_everything_is_taken_where_the_rubric_says_nothing(form: str | None) -> None:
    assert not_accepted(form, ALL) is None  # type: ignore[arg-type]
