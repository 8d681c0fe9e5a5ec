"""The metrics that a rubric may name: known without torch, so that a slip of the pen is found when the rubric is read."""

from __future__ import annotations

from collections.abc import Mapping

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


def more_is_better(rule: MetricRule) -> bool | None:
    """What the rule says; else what is known of its kind, which is nothing of a function of the operator's."""
    if rule.higher_is_better is not None or ":" in rule.kind:
        return rule.higher_is_better
    return rule.kind not in _LESS
