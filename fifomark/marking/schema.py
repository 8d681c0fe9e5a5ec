"""What a rubric may say, as closed records. `rubric.load_rubric` reads one and checks that its parts fit each other."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from msgspec import Meta

from fifomark.core.inspection import Form
from fifomark.core.policy import Positive, Seconds
from fifomark.core.record import Record
from fifomark.marking.terms import Attempts, Criterion, Feedback, Finite, Grading, Leaderboard, Name, SplitName


class About(Record):
    """`version` is to be changed with anything that can move a mark."""

    schema: Literal["fifomark.rubric/1"]
    id: Name
    title: str = ""
    version: str = "1"


TaskType = Literal[
    "multiclass-classification",
    "binary-classification",
    "multilabel-classification",
    "regression",
    "token-classification",
    "language-model",
]


class Task(Record):
    """What a model gives for an example (fifomark.marking.tasks says so for each type).

    `num_classes`: classes, labels of a multilabel task, or the vocabulary of a language model. `targets`: numbers that a regression gives.
    `class_names`, where given, has one name a class. `output` is what the model's last layer gives; of a regression, its values.
    `ignore_label` marks the positions of a sequence that do not count.
    """

    type: TaskType = "multiclass-classification"
    num_classes: Annotated[int, Meta(ge=2)] | None = None
    targets: Positive = 1
    class_names: tuple[str, ...] = ()
    output: Literal["logits", "probabilities", "log-probabilities"] = "logits"
    ignore_label: int = -100

    @property
    def width(self) -> int:
        """How many numbers a model gives for an example, or for a position of a sequence."""
        if self.type == "regression":
            return self.targets
        return 1 if self.type == "binary-classification" else self.num_classes or 0


class Intake(Record):
    """`owner_from` is a regular expression with a group `owner`, searched for in the file's name; `accept` the forms that are marked."""

    owner_from: str | None = None
    accept: tuple[Form, ...] = ("state_dict", "checkpoint", "module", "torchscript")


class ModelRules(Record):
    """Where a model to mark comes from: the rubric's own class, a family's builder, the tree of stock layers that was pickled, or
    TorchScript's own code.

    `factory` is a class or function of the Python beside the rubric ("models:Net"), called with `args`; the weights must fit what it
    gives. `families` are those that are built, or with a factory those that the weights may be of (none named: any). `trees`: a pickled
    module of stock torch.nn layers in a Sequential is rebuilt from its description. `torchscript`: a TorchScript archive is run as it
    came, in a sandbox of its own, on the CPU. `declared` holds one table of facts a family
    ([model.cnn] in the file): what a file of weights cannot tell.
    """

    families: tuple[str, ...] = ()
    factory: str | None = None
    args: dict[str, Any] = {}
    trees: bool = False
    torchscript: bool = False
    max_parameters: Positive | None = None
    max_macs: Positive | None = None
    declared: dict[str, dict[str, Any]] = {}


Spread = Annotated[float, Meta(gt=0, le=1e300)]


class Argument(Record):
    """One example as the model gets it: (x · scale − mean) / std. `mean` and `std`: one number, or one for each along the first axis.

    `pad` fills up sequences of whole numbers (token ids) that are shorter than `shape`.
    """

    shape: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    dtype: Literal["float32", "int64"] = "float32"
    scale: Finite = 1.0
    mean: Finite | tuple[Finite, ...] = 0.0
    std: Spread | tuple[Spread, ...] = 1.0
    pad: int | None = None


class Input(Argument):
    """The model's first argument. `more` describes those that follow, one [[input.more]] each; without it they are as the first."""

    more: tuple[Argument, ...] = ()


class DataFile(Record):
    """The examples: a file or folder beside the rubric (or an absolute path), or what a `factory` makes of it.

    `format` goes by the name's ending, where nothing is said; a folder holds pictures, one folder a class. `input` and `label` are names
    of arrays or columns. Several inputs are several arguments of the model, but columns of single numbers one, side by side; of a table
    without a column "x" every column is an input that is nothing else. A language model whose data has no "y" is to say the next token.
    `factory` is a function of the Python beside the rubric ("data:make") that takes the path and gives a torch Dataset of (input, label).

    `public` is the share of the examples whose marks submitters see at once, drawn by `seed`; the rest is private. Or `split` names the
    array or column that says "public" or "private" (or 1 or 0) of each example.
    """

    path: Name
    sha256: str = ""
    format: Literal["auto", "npz", "safetensors", "csv", "jsonl", "parquet", "pictures"] = "auto"
    input: Name | Annotated[tuple[Name, ...], Meta(min_length=1)] = "x"
    label: Name | Annotated[tuple[Name, ...], Meta(min_length=1)] = "y"
    factory: Name | None = None
    public: Annotated[float, Meta(gt=0, lt=1)] | None = None
    split: Name | None = None
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0


class Run(Record):
    """`threads` and `device`: the slot's own, where nothing is said. `precision` is what the model computes in."""

    seed: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    batch_size: Positive = 64
    threads: Positive | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "float64", "bfloat16"] = "float32"


class MarkLimits(Record):
    """What one mark may cost; None: as in the settings of the spool."""

    wall_seconds: Seconds | None = None
    cpu_seconds: Seconds | None = None
    memory_mib: Positive | None = None


class MetricRule(Record):
    """`kind` is a class of torchmetrics, one of our own (fifomark.marking.metric_names), or a function of the Python beside the rubric
    ("metrics:top5") or of a plugin.

    `higher_is_better`: what torchmetrics says of the class, where nothing is said. `precision`: the digits printed behind the point.
    `interval`: of 95 %, by Wilson's method for a share of examples; "bootstrap" resamples the examples, for any metric.
    """

    id: Name
    kind: Name
    args: dict[str, Any] = {}
    higher_is_better: bool | None = None
    precision: Annotated[int, Meta(ge=0, le=17)] = 4
    interval: Literal["auto", "none", "bootstrap"] = "auto"


Consequence = Literal["off", "flag", "fail"]


class Audits(Record):
    """Checks of how a model behaves: left out, said in the report, or refused where they are not passed.

    repeat: the same inputs give the same outputs · batch_size: alone as in a batch · order: in whatever order they come · constant: not the
    same for all examples · duplicates: weights that another owner handed in, the same, permuted, or with a little noise. `tolerance` is the
    share of the outputs' size by which they may differ.
    """

    repeat: Consequence = "flag"
    batch_size: Consequence = "flag"
    order: Consequence = "flag"
    constant: Consequence = "flag"
    duplicates: Literal["off", "flag"] = "flag"
    tolerance: Annotated[float, Meta(ge=0, le=1)] = 1e-4


class Rubric(Record, rename={"about": "rubric", "metrics": "metric", "criteria": "criterion"}):
    """A rubric as its file says it: the tables [rubric], [task], …, and [[metric]] and [[criterion]] in plural.

    Where it says nothing of metrics and criteria, `load_rubric` puts in what is usual for the task.
    """

    about: About
    task: Task
    model: ModelRules
    input: Input
    data: DataFile
    submission: Intake = Intake()
    run: Run = Run()
    limits: MarkLimits = MarkLimits()
    audits: Audits = Audits()
    metrics: tuple[MetricRule, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    grading: Grading = Grading()
    attempts: Attempts = Attempts()
    leaderboard: Leaderboard = Leaderboard()
    feedback: Feedback = Feedback()

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits that the data is measured on, what submitters may see first."""
        return ("all",) if self.data.public is None and self.data.split is None else ("public", "private")

    def split_of(self, criterion: Criterion) -> SplitName:
        """The examples that a criterion judges: those it names, or else the ones that are kept back."""
        return criterion.split or self.splits[-1]

    @property
    def ranked_on(self) -> SplitName:
        """The examples that the leaderboard ranks by: those it names, or else the ones that submitters may see."""
        return self.leaderboard.split or self.splits[0]

    def owner_of(self, name: str) -> str:
        """Whose file `name` is: the group `owner` of `owner_from`; where that says nothing, the stem up to "__"."""
        found = re.search(self.submission.owner_from, name) if self.submission.owner_from else None
        stem = os.path.splitext(name)[0]
        return (found and found["owner"]) or stem.split("__")[0] or stem
