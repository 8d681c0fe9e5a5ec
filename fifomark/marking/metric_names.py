"""The metrics that a rubric may name: known without torch, so that a slip of the pen is found when the rubric is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fifomark.marking.schema import MetricRule, TaskType


def _in(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in names.split())


# Classes of torchmetrics that give one number. Curves, matrices and pairs are no marks.
_SHARED = (
    "AUROC Accuracy AveragePrecision CalibrationError CohenKappa F1Score FBetaScore HammingDistance HingeLoss JaccardIndex "
    "MatthewsCorrCoef NegativePredictiveValue Precision Recall Specificity"
)
_MULTILABEL = (
    "AUROC Accuracy AveragePrecision CoverageError ExactMatch F1Score FBetaScore HammingDistance JaccardIndex MatthewsCorrCoef "
    "NegativePredictiveValue Precision RankingAveragePrecision RankingLoss Recall Specificity"
)
_REGRESSION = (
    "ConcordanceCorrCoef ExplainedVariance KendallRankCorrCoef LogCoshError MeanAbsoluteError MeanAbsolutePercentageError "
    "MeanSquaredError MeanSquaredLogError MinkowskiDistance NormalizedRootMeanSquaredError PearsonCorrCoef R2Score RelativeSquaredError "
    "SpearmanCorrCoef SymmetricMeanAbsolutePercentageError TweedieDevianceScore WeightedMeanAbsolutePercentageError"
)

TORCHMETRICS: Mapping[TaskType, tuple[str, ...]] = {
    "multiclass-classification": (*_in("Multiclass", _SHARED), "MulticlassExactMatch"),
    "binary-classification": _in("Binary", _SHARED),
    "multilabel-classification": _in("Multilabel", _MULTILABEL),
    "regression": tuple(_REGRESSION.split()),
    "token-classification": _in("Multiclass", _SHARED),
    "language-model": ("Perplexity", "MulticlassAccuracy"),
}
"""The torchmetrics classes that fit each type of task."""

BUILT_IN = ("parameters", "bytes", "macs", "latency_ms", "latency_p90_ms", "peak_memory_mib")
"""Numbers of the model itself, measured on no labels (fifomark.marking.cost)."""

_LESS = (  # is better
    *_in("Binary", "CalibrationError HammingDistance HingeLoss"),
    *_in("Multiclass", "CalibrationError HammingDistance HingeLoss"),
    *_in("Multilabel", "CoverageError HammingDistance RankingLoss"),
    *(name for name in _REGRESSION.split() if name.endswith(("Error", "Distance", "DevianceScore"))),
    "Perplexity",
    *BUILT_IN,
)


class Bounds(NamedTuple):
    """The least and the most that a metric can be, whatever the model and the data; None where there is no such number."""

    least: float | None
    most: float | None

    def __str__(self) -> str:
        match self:
            case (None, None):
                return "any number"
            case (least, None):
                return f"at least {least:g}"
            case (None, most):
                return f"at most {most:g}"
        return f"between {self.least:g} and {self.most:g}"


ANY, SHARE, CORRELATION = Bounds(None, None), Bounds(0, 1), Bounds(-1, 1)
# Where a metric of classes is no share, and those of regressions. What torchmetrics draws a metric between is not always what it lies
# between: ExplainedVariance and the correlations of classes may be negative, the hinge loss and the coverage error above 1.
_BOUNDS: Mapping[str, Bounds] = {
    **dict.fromkeys(_in("Binary", "HingeLoss") + _in("Multiclass", "HingeLoss") + _in("Multilabel", "CoverageError"), Bounds(0, None)),
    **dict.fromkeys(_in("Binary", "MatthewsCorrCoef CohenKappa"), CORRELATION),
    **dict.fromkeys(_in("Multiclass", "MatthewsCorrCoef CohenKappa") + _in("Multilabel", "MatthewsCorrCoef"), CORRELATION),
    **dict.fromkeys(("ConcordanceCorrCoef", "KendallRankCorrCoef", "PearsonCorrCoef", "SpearmanCorrCoef"), CORRELATION),
    **dict.fromkeys(("ExplainedVariance", "R2Score"), Bounds(None, 1)),
    **{name: Bounds(0, None) for name in _REGRESSION.split() if name.endswith(("Error", "Distance", "DevianceScore"))},
    "NormalizedRootMeanSquaredError": ANY,  # divided by the mean of the targets, which may be negative
    "SymmetricMeanAbsolutePercentageError": Bounds(0, 2),
    "Perplexity": Bounds(1, None),
    **dict.fromkeys(BUILT_IN, Bounds(0, None)),
}


def bounds(kind: str) -> Bounds:
    """Between which numbers a metric lies, by mathematics; ANY for a function of the operator's."""
    return ANY if ":" in kind else _BOUNDS.get(kind, SHARE)


def more_is_better(rule: MetricRule) -> bool | None:
    """What the rule says; else what is known of its kind, which is nothing of a function of the operator's."""
    if rule.higher_is_better is not None or ":" in rule.kind:
        return rule.higher_is_better
    return rule.kind not in _LESS
