from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional

import fifomark
from fifomark.core.findings import Level
from fifomark.marking.evaluation import Measured, measure
from fifomark.marking.metrics import Meter
from fifomark.marking.rubric import load_rubric
from fifomark.marking.running import Examples, Runner
from fifomark.marking.schema import Audits, Task

DIGITS = load_rubric(Path(fifomark.__file__).parent / "examples" / "digits")
THREE = Task(num_classes=3)


class Net(nn.Module):
    """A linear layer, in which something goes wrong afterwards."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Lottery(Net):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.layer(x), 0.5)


class OverTheBatch(Net):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(self.layer(x), dim=0)


class Later(Net):
    """Honest for its first calls."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + (1.0 if self.calls > 3 else 0.0) * torch.eye(3)[0]


class NotAlone(Net):
    """As batch normalisation without running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(self.layer(x), None, None, training=True)


class ByPosition(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.arange(len(x))[:, None] * torch.eye(3)[0]


class Constant(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.zeros_like(x))


def measured(model: nn.Module, batch: int = 32, examples: int = 100, **audits: str) -> Measured:
    x = torch.randn(examples, 4, generator=torch.Generator().manual_seed(1))
    rubric = replace(DIGITS, task=THREE, run=replace(DIGITS.run, batch_size=batch), audits=Audits(**audits))  # type: ignore[arg-type]
    return measure(
        Runner(model, THREE, torch.device("cpu")), rubric, (Examples("all", (x,), torch.arange(examples) % 3),), (Meter(rubric, "all"),)
    )


def test_an_honest_model_passes_them_all_by_one_look() -> None:
    model = Net()
    forwards: list[int] = []
    model.register_forward_pre_hook(lambda _, args: forwards.append(len(args[0])))
    seen = measured(model)
    assert {audit.id: audit.passed for audit in seen.audits} == {"repeat": True, "batch_size": True, "order": True}
    assert seen.findings == ()
    assert forwards == [8, 32, 32, 32, 4, 8]


@pytest.mark.parametrize(
    ("model", "failed", "codes"),
    [
        (Lottery, {"repeat", "batch_size", "order"}, ["FM607"]),
        (OverTheBatch, {"batch_size"}, ["FM608"]),
        (ByPosition, {"batch_size", "order"}, ["FM608", "FM609"]),
    ],
)
def test_what_goes_wrong_is_told_apart(model: type[Net], failed: set[str], codes: list[str]) -> None:
    seen = measured(model())
    assert {audit.id for audit in seen.audits if not audit.passed} == failed
    assert [finding.code for finding in seen.findings] == codes
    assert all(finding.level is Level.WARNING for finding in seen.findings)
    assert "of 64 predictions change" in str(seen.findings[-1].evidence)


def test_a_model_that_changes_once_it_was_looked_at_does_not_repeat() -> None:
    (finding,) = measured(Later()).findings
    assert finding.code == "FM607"
    assert "once all examples were seen" in str(finding.evidence)


def test_a_model_that_runs_on_a_batch_and_not_on_one_example_depends_on_the_batch() -> None:
    seen = measured(NotAlone())
    assert [finding.code for finding in seen.findings] == ["FM608"]
    assert "Expected more than 1 value per channel" in str(seen.findings[0].evidence)


def test_what_cannot_be_told_is_refused_where_a_rubric_asks_for_it() -> None:
    seen = measured(Lottery(), batch_size="fail")
    assert [(finding.code, finding.level) for finding in seen.findings] == [("FM607", Level.WARNING), ("FM608", Level.INVALID)]
    assert {audit.message for audit in seen.audits} == {"the same inputs do not give the same outputs", str(seen.findings[1].evidence)}


def test_a_rubric_may_refuse_what_others_flag_and_leave_audits_out() -> None:
    (finding,) = measured(OverTheBatch(), batch_size="fail").findings
    assert finding.level is Level.INVALID
    seen = measured(Lottery(), repeat="off", batch_size="off", order="off")
    assert (seen.audits, seen.findings) == ((), ())


def test_a_constant_model_is_flagged_refused_or_let_through() -> None:
    levels = {what: [finding.level for finding in measured(Constant(), constant=what).findings] for what in ("off", "flag", "fail")}
    assert levels == {"off": [], "flag": [Level.WARNING], "fail": [Level.INVALID]}


def test_a_single_example_is_enough_to_run() -> None:
    assert measured(Net(), examples=1).findings == ()
