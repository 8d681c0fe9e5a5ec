"""What a mark is worth, as closed records: points for metrics, bands, lateness, attempts, the ranking, and what submitters are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from fifomark.core.policy import Positive
from fifomark.core.record import Record

Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]  # TOML has nan and inf; a mark has not
Share = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[float, Meta(ge=0, le=1e6)]
Name = Annotated[str, Meta(min_length=1)]
SplitName = Literal["all", "public", "private"]


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

CHECKS = ("loads", "repeat", "batch_size", "order", "memory")
"""What a criterion may check: that the model ran; what an audit says (fifomark.marking.audits); that a batch fitted into memory."""


class Criterion(Record):
    """Points for a metric, by `scoring`; or for a check: "loads" (the model was built from its weights and ran), an audit by its id
    ("repeat", "batch_size", "order"), or "memory" (it ran with the rubric's batch size).

    `split`: the examples that the metric is of; the private ones, where the data is split and nothing is said. What is measured on the
    model itself, such as its parameters, has no split. `title` is what readers see: the id, where nothing is said.
    """

    id: Name
    points: Points
    title: str = ""
    metric: str | None = None
    split: SplitName | None = None
    scoring: Scoring | None = None
    check: Name | None = None


class Band(Record, rename={"start": "from"}):
    """A name for marks from a share of the points on: { grade = "A", from = 0.9 }."""

    grade: Name
    start: Share


class Rounding(Record):
    """The points of a mark are a multiple of `step`."""

    step: Annotated[float, Meta(ge=1e-6, le=1e6)] = 0.01
    mode: Literal["half-up"] = "half-up"


class Late(Record):
    """What lateness costs: `share` of the points earned, for every `hours` begun after `due` and `grace_minutes`; at most `most`.

    What counts is when we received a file; its own mtime proves nothing. Pass and band follow from the points that are left.
    """

    due: Annotated[datetime, Meta(tz=True)]
    share: Share = 0.1
    hours: Annotated[float, Meta(gt=0, le=1e6)] = 24.0
    most: Share = 1.0
    grace_minutes: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


class Grading(Record):
    """`pass_mark` and the bands' `from` are shares of the points possible."""

    pass_mark: Share = 0.5
    rounding: Rounding = Rounding()
    bands: tuple[Band, ...] = ()
    late: Late | None = None


Ending = Literal["done", "rejected", "limit-exceeded"]


class Attempts(Record):
    """How often an owner may submit. `counts` are the endings that use an attempt up; what was withdrawn, or failed by our fault, never
    does. A day is one of `day_zone` (a name of the time zone database).

    `keep`: which of an owner's marks stands; of equal ones the earlier.
    """

    max_total: Positive | None = None
    max_per_day: Positive | None = None
    day_zone: Name = "UTC"
    counts: tuple[Ending, ...] = ("done", "rejected", "limit-exceeded")
    keep: Literal["best", "last", "first"] = "best"


class Leaderboard(Record):
    """`primary` is the metric that ranks (default: the first), on `split` (default: the public examples, where the data is split)."""

    primary: str | None = None
    split: SplitName | None = None
    names: Literal["owner", "pseudonym"] = "owner"


class Feedback(Record):
    """What the student's rendering of a report shows. Labels, inputs and outputs are in no report at all.

    `metrics`: those of the public split only, all, or none. `digits`: significant digits of a metric, at most: from a loss at full
    precision labels can be worked out.
    """

    metrics: Literal["public", "all", "none"] = "public"
    digits: Annotated[int, Meta(ge=1, le=17)] = 4
    criteria: bool = True
