"""What a rubric may say, as closed records. `rubric.load_rubric` reads one and checks that its parts fit each other."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from msgspec import Meta

from fifomark.core.policy import Positive, Seconds
from fifomark.core.record import Record

Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]  # TOML has nan and inf; a mark has not
Share = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[float, Meta(ge=0, le=1e6)]
Name = Annotated[str, Meta(min_length=1)]


class About(Record):
    """`version` is to be changed with anything that can move a mark."""

    schema: Literal["fifomark.rubric/1"]
    id: Name
    title: str = ""
    version: str = "1"


class Task(Record):
    """`class_names`, where given, has one name a class."""

    num_classes: Annotated[int, Meta(ge=2)]
    type: Literal["multiclass-classification"] = "multiclass-classification"
    class_names: tuple[str, ...] = ()


class Intake(Record):
    """`owner_from` is a regular expression with a group `owner`, searched for in the file's name."""

    owner_from: str | None = None


class ModelRules(Record):
    """`declared` holds one table of facts a family ([model.cnn] in the file): what a file of weights cannot tell."""

    families: Annotated[tuple[str, ...], Meta(min_length=1)]
    max_parameters: Positive | None = None
    declared: dict[str, dict[str, Any]] = {}


class Input(Record):
    """One example as the model gets it: (x · scale − mean) / std. `mean` and `std`: one number, or one for each along the first axis."""

    shape: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    dtype: Literal["float32", "int64"] = "float32"
    scale: Finite = 1.0
    mean: tuple[Finite, ...] = (0.0,)
    std: tuple[Annotated[float, Meta(gt=0, le=1e300)], ...] = (1.0,)


class DataFile(Record):
    """An .npz beside the rubric (or an absolute path), and the names of its arrays of examples and labels."""

    path: Name
    sha256: str = ""
    input: str = "x"
    label: str = "y"


class Run(Record):
    """`threads` and `device`: the slot's own, where nothing is said."""

    seed: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    batch_size: Positive = 64
    threads: Positive | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"


class MarkLimits(Record):
    """What one mark may cost; None: as in the settings of the spool."""

    wall_seconds: Seconds | None = None
    memory_mib: Positive | None = None


class MetricRule(Record):
    """`kind` is a class of torchmetrics, or "parameters"; `precision` the digits printed behind the point.

    `higher_is_better`: what torchmetrics says of the class, where nothing is said.
    """

    id: Name
    kind: Name
    args: dict[str, Any] = {}
    higher_is_better: bool | None = None
    precision: Annotated[int, Meta(ge=0, le=17)] = 4


class Threshold(Record, tag_field="kind", tag="threshold"):
    """All points, or none."""

    at_least: Finite | None = None
    at_most: Finite | None = None


class Linear(Record, tag_field="kind", tag="linear", rename={"start": "from", "end": "to"}):
    """No points at `from`, all at `to`, in proportion between them. `from` above `to`: less is better."""

    start: Finite
    end: Finite


class Steps(Record, tag_field="kind", tag="steps"):
    """Pairs of a value and the points for those who reach it; the most that is reached counts."""

    steps: Annotated[tuple[tuple[Finite, Points], ...], Meta(min_length=1)]


Scoring = Threshold | Linear | Steps


class Criterion(Record):
    """Points for a metric, by `scoring`; or for a check ("loads": the model was built from its weights and ran)."""

    id: Name
    title: Name
    points: Points
    metric: str | None = None
    scoring: Scoring | None = None
    check: Literal["loads"] | None = None


class Band(Record, rename={"start": "from"}):
    """A name for marks from a share of the points on: { grade = "A", from = 0.9 }."""

    grade: Name
    start: Share


class Rounding(Record):
    """The points of a mark are a multiple of `step`."""

    step: Annotated[float, Meta(gt=0, le=1e6)] = 0.01
    mode: Literal["half-up"] = "half-up"


class Grading(Record):
    """`pass_mark` and the bands' `from` are shares of the points possible."""

    pass_mark: Share = 0.5
    rounding: Rounding = Rounding()
    bands: tuple[Band, ...] = ()


class Leaderboard(Record):
    """`primary` is the metric that ranks; the first one, where nothing is said."""

    primary: str | None = None


ACCURACY = MetricRule(id="accuracy", kind="MulticlassAccuracy", args={"average": "micro"})
FOR_ACCURACY = Criterion(id="accuracy", title="Accuracy", points=100, metric="accuracy", scoring=Linear(start=0, end=1))


class Rubric(Record, rename={"about": "rubric", "metrics": "metric", "criteria": "criterion"}):
    """A rubric as its file says it: the tables [rubric], [task], …, and [[metric]] and [[criterion]] in plural."""

    about: About
    task: Task
    model: ModelRules
    input: Input
    data: DataFile
    submission: Intake = Intake()
    run: Run = Run()
    limits: MarkLimits = MarkLimits()
    metrics: Annotated[tuple[MetricRule, ...], Meta(min_length=1)] = (ACCURACY,)
    criteria: Annotated[tuple[Criterion, ...], Meta(min_length=1)] = (FOR_ACCURACY,)
    grading: Grading = Grading()
    leaderboard: Leaderboard = Leaderboard()

    def owner_of(self, name: str) -> str:
        """Whose file `name` is: the group `owner` of `owner_from`; where that says nothing, the stem up to "__"."""
        found = re.search(self.submission.owner_from, name) if self.submission.owner_from else None
        stem = os.path.splitext(name)[0]
        return (found and found["owner"]) or stem.split("__")[0] or stem
