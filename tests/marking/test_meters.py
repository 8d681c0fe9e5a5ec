"""Every task's metrics are those of a plain torchmetrics script, to the last digit, whatever the batches."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification as classification
import torchmetrics.regression as regression
from msgspec.structs import replace
from torch import Tensor
from torchmetrics.text import Perplexity

import fifomark
from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Metric
from fifomark.marking.metric_names import TORCHMETRICS
from fifomark.marking.metrics import Meter, try_metrics
from fifomark.marking.own_metrics import OwnMetric
from fifomark.marking.python import Own
from fifomark.marking.rubric import load_rubric
from fifomark.marking.schema import MetricRule, Task

DIGITS = load_rubric(Path(fifomark.__file__).parent / "examples" / "digits")
RANDOM = torch.Generator().manual_seed(0)
N = 90


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RANDOM)


BITS = (normal(N, 4) > 0.3).long()
TOKENS = torch.randint(0, 5, (N, 7), generator=RANDOM).where(normal(N, 7) > -1, -100)
AMOUNTS = normal(N, 1).abs() + 1
TASKS: dict[str, tuple[Task, Tensor, Tensor]] = {
    "multiclass-classification": (Task(num_classes=5), normal(N, 5), torch.arange(N) % 5),
    "binary-classification": (Task(type="binary-classification"), normal(N, 1), torch.arange(N) % 2),
    "multilabel-classification": (Task(type="multilabel-classification", num_classes=4), normal(N, 4) + BITS, BITS),
    "regression": (Task(type="regression"), AMOUNTS + 0.1 * normal(N, 1).abs(), AMOUNTS),
    "token-classification": (Task(type="token-classification", num_classes=5), normal(N, 7, 5), TOKENS),
    "language-model": (Task(type="language-model", num_classes=5), normal(N, 7, 5), TOKENS),
}


def measured(task: Task, outputs: Tensor, labels: Tensor, *rules: MetricRule, batch: int = 32) -> list[Metric]:
    rubric = replace(DIGITS, task=task, metrics=rules)
    try_metrics(rubric, "rubric.toml")
    meter = Meter(rubric, "all")
    for at in range(0, len(labels), batch):
        meter.update(outputs[at : at + batch], labels[at : at + batch])
    return list(meter.metrics())


@pytest.mark.filterwarnings("ignore:Metric .* will save all")
@pytest.mark.parametrize(
    ("task", "kind"), [(task, kind) for task, kinds in TORCHMETRICS.items() for kind in kinds if kind not in ("Perplexity",)]
)
def test_every_metric_that_a_rubric_may_name_is_torchmetrics_own(task: str, kind: str) -> None:
    settings, outputs, labels = TASKS[task]
    arguments = {"p": 3.0} if kind == "MinkowskiDistance" else {"beta": 2.0} if "FBeta" in kind else {}
    (metric,) = measured(settings, outputs, labels, MetricRule(id="m", kind=kind, args=arguments))
    plain, forms = PLAIN[task](kind, arguments)
    assert metric.value == pytest.approx(float(plain(*forms(outputs, labels))), rel=1e-7)
    assert (metric.n, metric.reason) == (N, None)


Plain = tuple[Any, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]


def multiclass(kind: str, arguments: dict[str, Any]) -> Plain:
    return getattr(classification, kind)(num_classes=5, **arguments), lambda o, y: (o.softmax(1), y)


def binary(kind: str, arguments: dict[str, Any]) -> Plain:
    return getattr(classification, kind)(**arguments), lambda o, y: (o.sigmoid().squeeze(1), y)


def multilabel(kind: str, arguments: dict[str, Any]) -> Plain:
    return getattr(classification, kind)(num_labels=4, **arguments), lambda o, y: (o.sigmoid(), y)


def amounts(kind: str, arguments: dict[str, Any]) -> Plain:
    return getattr(regression, kind)(**arguments), lambda o, y: (o.squeeze(1), y.squeeze(1))


def tokens(kind: str, arguments: dict[str, Any]) -> Plain:
    made = getattr(classification, kind)(num_classes=5, ignore_index=-100, **arguments)
    return made, lambda o, y: (o.softmax(-1).flatten(0, 1), y.flatten())


PLAIN: dict[str, Callable[[str, dict[str, Any]], Plain]] = {
    "multiclass-classification": multiclass,
    "binary-classification": binary,
    "multilabel-classification": multilabel,
    "regression": amounts,
    "token-classification": tokens,
    "language-model": tokens,
}


def test_perplexity_is_of_the_positions_that_count_whatever_the_model_gives() -> None:
    task, outputs, labels = TASKS["language-model"]
    plain = Perplexity(ignore_index=-100)(outputs, labels)
    rule = MetricRule(id="m", kind="Perplexity")
    said = {"logits": outputs, "probabilities": outputs.softmax(-1), "log-probabilities": outputs.log_softmax(-1)}
    for output, given in said.items():
        (metric,) = measured(replace(task, output=output), given, labels, rule)
        assert metric.value == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("task", ["multiclass-classification", "binary-classification", "multilabel-classification"])
def test_probabilities_and_their_logarithms_are_taken_as_they_are(task: str) -> None:
    settings, outputs, labels = TASKS[task]
    kind = TORCHMETRICS[task][0]  # an area under a curve, which sees every digit
    probabilities = outputs.softmax(1) if task.startswith("multiclass") else outputs.sigmoid()
    values = [
        measured(replace(settings, output=output), given, labels, MetricRule(id="m", kind=kind))[0].value
        for output, given in (("logits", outputs), ("probabilities", probabilities), ("log-probabilities", probabilities.log()))
    ]
    assert values[0] == values[1]
    assert values[0] == pytest.approx(values[2], abs=1e-6)


def test_several_targets_are_one_number_or_an_error_that_says_how() -> None:
    task, labels = Task(type="regression", targets=3), normal(N, 3).abs()
    outputs = labels + 0.1 * normal(N, 3)
    (metric,) = measured(task, outputs, labels, MetricRule(id="m", kind="MeanAbsoluteError"))
    assert metric.value == pytest.approx(float((outputs - labels).abs().mean()), abs=1e-6)
    with pytest.raises(ConfigError, match=r"no single number with them \(leave them out\)"):
        measured(task, outputs, labels, MetricRule(id="m", kind="KendallRankCorrCoef", args={"t_test": True}))


@pytest.mark.filterwarnings("ignore:Metric .* will save all")
@pytest.mark.parametrize("interval", ["auto", "bootstrap"])
@pytest.mark.parametrize("kind", ["ConcordanceCorrCoef", "KendallRankCorrCoef", "PearsonCorrCoef", "SpearmanCorrCoef"])
def test_a_correlation_over_several_targets_is_the_mean_of_theirs(kind: str, interval: Any) -> None:
    task, labels = Task(type="regression", targets=3), normal(N, 3)
    outputs = labels + torch.tensor([0.1, 1.0, 3.0]) * normal(N, 3)
    (metric,) = measured(task, outputs, labels, MetricRule(id="m", kind=kind, interval=interval))
    each = [float(getattr(regression, kind)()(outputs[:, i], labels[:, i])) for i in range(3)]
    assert metric.value == pytest.approx(sum(each) / 3, abs=1e-6)
    if interval == "bootstrap":
        assert metric.ci95 is not None
        assert metric.ci95[0] < metric.value < metric.ci95[1]


def test_shares_of_examples_carry_wilsons_interval_and_its_name() -> None:
    for task, kind, arguments in (
        ("multiclass-classification", "MulticlassAccuracy", {"average": "micro"}),
        ("binary-classification", "BinaryAccuracy", {}),
        ("token-classification", "MulticlassAccuracy", {"average": "micro"}),
    ):
        (metric,) = measured(*TASKS[task], MetricRule(id="m", kind=kind, args=arguments))
        assert metric.method == "wilson"
        assert metric.ci95 is not None
        assert metric.value is not None
        assert metric.ci95[0] < metric.value < metric.ci95[1]
    (bare,) = measured(*TASKS["binary-classification"], MetricRule(id="m", kind="BinaryAccuracy", interval="none"))
    assert (bare.ci95, bare.method) == (None, None)


def test_the_bootstrap_repeats_and_agrees_with_wilson_where_both_can_be_had() -> None:
    rule = MetricRule(id="m", kind="BinaryAccuracy", interval="bootstrap")
    (wilson,) = measured(*TASKS["binary-classification"], replace(rule, interval="auto"))
    (first,) = measured(*TASKS["binary-classification"], rule)
    (again,) = measured(*TASKS["binary-classification"], rule, batch=7)
    assert (first.method, first.ci95) == ("bootstrap", again.ci95)
    assert first.ci95 == pytest.approx(wilson.ci95, abs=0.03)


def test_an_interval_that_some_draws_do_not_have_is_left_out_with_the_reason() -> None:
    labels, outputs = torch.tensor([1.0, 1.0, 1.0, 1.0, 5.0]).reshape(-1, 1), torch.tensor([1.1, 0.9, 1.2, 1.0, 4.0]).reshape(-1, 1)
    rule = MetricRule(id="m", kind="PearsonCorrCoef", interval="bootstrap")  # a third of the draws are all alike
    (metric,) = measured(Task(type="regression"), outputs, labels, rule)
    assert metric.value is not None
    assert (metric.ci95, metric.method) == (None, None)
    assert metric.reason is not None
    assert metric.reason.startswith("no interval: ")
    assert "of 500 draws of the examples have no PearsonCorrCoef" in metric.reason


def test_the_operator_sees_which_classes_are_taken_for_which_and_how_sure_a_model_is() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    probabilities = torch.tensor([[0.97, 0.03, 0.0], [0.2, 0.75, 0.05], [0.1, 0.85, 0.05], [0.3, 0.3, 0.4]])
    meter = Meter(replace(DIGITS, task=Task(num_classes=3, output="probabilities"), metrics=()), "public")
    meter.update(probabilities[:3], labels[:3])
    meter.update(probabilities[3:], labels[3:])
    seen = meter.details()
    assert seen is not None
    assert (seen.split, seen.confusion) == ("public", ((1, 1, 0), (0, 1, 0), (0, 0, 1)))
    assert [(b.n, b.confidence, b.accuracy) for b in seen.calibration if b.n] == [
        (1, pytest.approx(0.4), 1.0),
        (1, pytest.approx(0.75), 0.0),
        (1, pytest.approx(0.85), 1.0),
        (1, pytest.approx(0.97), 1.0),
    ]
    assert Meter(replace(DIGITS, task=TASKS["regression"][0], metrics=()), "all").details() is None


def own(function: Callable[..., object], rule: MetricRule) -> OwnMetric:
    return OwnMetric(Own(rule.kind, function, "nowhere", "rubric.toml", f"metric.{rule.id}.kind"), rule)


def test_a_function_of_the_rubrics_own_sees_the_whole_split_at_once() -> None:
    task, outputs, labels = TASKS["multiclass-classification"]
    seen: list[tuple[int, int]] = []

    def top(outputs: Tensor, labels: Tensor, k: int) -> Tensor:
        seen.append((len(outputs), len(labels)))
        return (outputs.topk(k).indices == labels[:, None]).any(1).double().mean()

    rule = MetricRule(id="top", kind="metrics:top", args={"k": 2})
    meter = Meter(replace(DIGITS, task=task, metrics=(rule,)), "all", {"top": own(top, rule)})
    for at in range(0, N, 32):
        meter.update(outputs[at : at + 32], labels[at : at + 32])
    (metric,) = meter.metrics()
    assert metric.value == pytest.approx(float((outputs.topk(2).indices == labels[:, None]).any(1).double().mean()))
    assert seen == [(N, N)]


def test_a_function_that_writes_to_what_it_is_given_changes_no_other_number() -> None:
    task, outputs, labels = TASKS["multiclass-classification"]

    def spoils(outputs: Tensor, labels: Tensor) -> float:
        outputs.zero_()
        labels.zero_()
        return 1.0

    def right(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.argmax(1) == labels).double().mean()

    rules = tuple(MetricRule(id=id, kind=f"metrics:{id}", interval="bootstrap") for id in ("spoils", "right"))
    meter = Meter(replace(DIGITS, task=task, metrics=rules), "all", {"spoils": own(spoils, rules[0]), "right": own(right, rules[1])})
    meter.update(outputs, kept := labels.clone())
    _, metric = meter.metrics()
    assert metric.value == float(right(outputs, labels))
    assert metric.ci95 is not None
    assert metric.ci95[0] < metric.value < metric.ci95[1]
    assert torch.equal(kept, labels)


def test_a_function_that_fails_is_the_operators_error_by_its_name() -> None:
    task, outputs, labels = TASKS["multiclass-classification"]
    rule = MetricRule(id="own", kind="metrics:own")
    meter = Meter(replace(DIGITS, task=task, metrics=(rule,)), "all", {"own": own(lambda outputs, labels: outputs[99, 99], rule)})
    meter.update(outputs, labels)
    with pytest.raises(ConfigError, match=r"metric\.own\.kind: metrics:own raised IndexError"):
        meter.metrics()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("0.5", "a str"),
        (None, "a NoneType"),
        (1j, "a complex"),
        (torch.tensor(1j), "a Tensor of torch.complex64"),
        (torch.ones(2, 3), "a Tensor of shape (2, 3)"),
        (np.ones(2), "a ndarray of shape (2,)"),
    ],
)
def test_a_function_that_gives_no_number_is_told_what_was_expected(given: object, what: str) -> None:
    metric = own(lambda outputs, labels: given, MetricRule(id="own", kind="metrics:own"))
    with pytest.raises(ConfigError) as e:
        metric(torch.zeros(3, 2), torch.zeros(3))
    assert str(e.value) == f"rubric.toml: metric.own.kind: metrics:own gives {what}, expected one real number"


@pytest.mark.parametrize("given", [1, 0.5, True, Fraction(1, 2), torch.tensor([0.5]), torch.tensor(1), np.float32(0.5), np.array(0.5)])
def test_a_number_of_any_kind_is_one(given: Any) -> None:
    metric = own(lambda outputs, labels: given, MetricRule(id="own", kind="metrics:own"))
    assert metric(torch.zeros(3, 2), torch.zeros(3)) == float(given)


def test_what_a_metric_cannot_take_of_a_model_is_no_number_with_its_reason() -> None:
    rules = (MetricRule(id="t", kind="TweedieDevianceScore", args={"power": 1.5}), MetricRule(id="mae", kind="MeanAbsoluteError"))
    tweedie, mae = measured(Task(type="regression"), -AMOUNTS, AMOUNTS, *rules)
    assert tweedie.value is None
    assert tweedie.reason is not None
    assert tweedie.reason.startswith("TweedieDevianceScore: For power=1.5")
    assert tweedie.higher_is_better is False
    assert mae.value == pytest.approx(float(2 * AMOUNTS.mean()), rel=1e-6)


def test_a_thousand_classes_are_counted_without_a_table_of_a_million_cells_an_example() -> None:
    seen: list[bool] = []
    update = classification.MulticlassF1Score.update
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                classification.MulticlassF1Score,
                "update",
                lambda self, *args: (seen.append(torch.are_deterministic_algorithms_enabled()), update(self, *args)),
            )
            outputs, labels = normal(64, 1000), torch.arange(64)
            (metric,) = measured(Task(num_classes=1000), outputs, labels, MetricRule(id="m", kind="MulticlassF1Score"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert set(seen) == {False}
    assert metric.value == pytest.approx(float(classification.MulticlassF1Score(1000)(outputs, labels)), abs=1e-7)
