"""Metrics of the operator's own: functions of the Python beside a rubric, or of plugins, that give one number."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from torch import Tensor

from fifomark import plugins
from fifomark.core.text import shown
from fifomark.marking.python import Own, load_callable
from fifomark.marking.schema import MetricRule, Rubric


@dataclass(frozen=True)
class OwnMetric:
    own: Own
    rule: MetricRule

    def __call__(self, outputs: Tensor, labels: Tensor) -> float | None:
        """None for NaN and Inf. ConfigError, or PluginFailed, where it raises or gives no number: the model is not at fault."""
        result = self.own(outputs, labels, **self.rule.args)
        value = _number(result)
        if value is None:
            raise self.own.wrong(f"gives {_said(result)}, expected one real number")
        return value if isfinite(value) else None


OwnMetrics = dict[str, OwnMetric]  # by the metric's id


def own_metrics(folder: str, rubric: Rubric, place: object) -> OwnMetrics:
    """The functions that the rubric names. ConfigError where one is not there."""
    return {rule.id: OwnMetric(_loaded(folder, rule, place), rule) for rule in rubric.metrics if ":" in rule.kind}


def _loaded(folder: str, rule: MetricRule, place: object) -> Own:
    arguments = f"it is called with {', '.join(['outputs', 'labels', *rule.args])}"
    return load_callable(folder, rule.kind, place, f"metric.{rule.id}.kind", plugins.METRICS, arguments)


def _number(result: Any) -> float | None:
    """A number of Python's, numpy's or torch's; None for what is none, or several."""
    try:
        value = result.item() if hasattr(result, "item") else result
        return None if isinstance(value, (str, bytes)) else float(value)
    except Exception:  # whatever its class thinks of being a number
        return None


def _said(result: Any) -> str:
    shape = getattr(result, "shape", None)
    kind = f"a {shown(type(result).__name__, 100)}"
    if isinstance(result, Tensor) and result.numel() == 1:
        return f"{kind} of {result.dtype}"
    return kind if shape is None else f"{kind} of shape {shown(str(tuple(shape)), 100)}"
