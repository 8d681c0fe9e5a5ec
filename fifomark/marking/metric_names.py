"""The metrics that a rubric may name: known without torch, so that a slip of the pen is found when the rubric is read."""

from __future__ import annotations

from collections.abc import Mapping

# Classes of torchmetrics.classification that give one number. Curves, matrices and pairs are no marks.
_MULTICLASS = (
    "MulticlassAUROC",
    "MulticlassAccuracy",
    "MulticlassAveragePrecision",
    "MulticlassCalibrationError",
    "MulticlassCohenKappa",
    "MulticlassExactMatch",
    "MulticlassF1Score",
    "MulticlassFBetaScore",
    "MulticlassHammingDistance",
    "MulticlassHingeLoss",
    "MulticlassJaccardIndex",
    "MulticlassMatthewsCorrCoef",
    "MulticlassNegativePredictiveValue",
    "MulticlassPrecision",
    "MulticlassRecall",
    "MulticlassSpecificity",
)

TORCHMETRICS: Mapping[str, tuple[str, ...]] = {"multiclass-classification": _MULTICLASS}
"""The torchmetrics classes that fit each type of task."""

BUILT_IN = ("parameters",)
"""Numbers of the model itself, measured on no data."""
