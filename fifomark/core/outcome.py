"""What a worker is told, and what it says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from fifomark.core.findings import Finding
from fifomark.core.inspection import Form, Inspection
from fifomark.core.layers import Layer
from fifomark.core.policy import Limits, Policy
from fifomark.core.record import Record

Blame = Literal["submitter", "operator"]


class Reason(Record):
    """Why a submission ended as it did: a stable code, a sentence, and whose turn it is (None: nobody did wrong)."""

    code: str
    message: str
    blame: Blame | None


class Metric(Record):
    """One number on one split of `n` examples. `value` is None where it could not be had; `reason` then says why, or why there is no
    interval although the rubric wants one.

    `ci95` is the 95 % interval; `method` how it was had ("wilson", "bootstrap"), or how a number of the model itself was measured.
    """

    id: str
    split: str
    value: float | None
    n: int
    ci95: tuple[float, float] | None = None
    higher_is_better: bool | None = None
    reason: str | None = None
    method: str | None = None


class Reliability(Record):
    """Of the `n` examples that a model was about equally sure of: its mean confidence, and the share that is right."""

    n: int
    confidence: float | None
    accuracy: float | None


class Details(Record):
    """For the operator, of one split: `confusion[label][said]` counts examples, `calibration` goes by tenths of confidence."""

    split: str
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[Reliability, ...]


class Audit(Record):
    """A check of the model's behaviour that moves no mark by itself."""

    id: str
    passed: bool
    message: str


class Cost(Record):
    """Wall-clock seconds of the forward passes over the data, and of everything from the ticket to the outcome."""

    forward_seconds: float
    total_seconds: float


class PluginUsed(Record):
    """An entry point `name` of `group` that took part, and the distribution that it came with."""

    group: str
    name: str
    distribution: str
    version: str


class Evaluation(Record):
    """A model's mark: the numbers, and what they were measured with.

    `source` is what made the model: "factory models:Net", "family cnn", "tree", the layers that were pickled with the weights, or
    "torchscript", its own code; `sandbox` then says what bound the process that ran it.
    `declared` is what the rubric said about the architecture, `assumed` what nobody said and was taken for granted.
    """

    rubric_sha256: str
    dataset_sha256: str
    device: str
    metrics: tuple[Metric, ...]
    audits: tuple[Audit, ...]
    cost: Cost
    findings: tuple[Finding, ...] = ()
    declared: dict[str, Any] = {}
    assumed: tuple[str, ...] = ()
    torch_version: str = ""
    source: str = ""
    sandbox: str | None = None
    details: tuple[Details, ...] = ()
    plugins: tuple[PluginUsed, ...] = ()


MAX_SKETCH = 7168  # bytes


class Fingerprint(Record):
    """What weights are compared by across owners (fifomark.marking.fingerprint): hashes of exactly these weights, of their numbers in any
    order, and of their shapes, and a sketch that survives a little noise. It is kept in the ledger and stands in no report."""

    exact: str
    permuted: str
    shapes: str
    size: float
    sketch: Annotated[bytes, Meta(max_length=MAX_SKETCH)]


# What a worker is told


class SanitizeTicket(Record, tag="sanitize"):
    """Inspect the file at `path`; where it passes, write its clean file to `clean_path` (a temporary name of the spool).

    `families` are plugins that know kinds of network besides our own.
    """

    submission: int
    path: str
    name: str
    clean_path: str
    policy: Policy
    limits: Limits
    families: tuple[str, ...] = ()


class Original(Record):
    """The submission as it came, whose code the rubric lets run: where it lies, the hash that its inspection had, and what bounds it."""

    path: str
    sha256: str | None
    sandbox: Literal["auto", "required", "best-effort", "off"] = "auto"
    seconds: float = 300.0
    memory_bytes: int | None = None


class MarkTicket(Record, tag="mark"):
    """Mark the clean file at `path` against the rubric in the folder `rubric`, which must still have the hash `rubric_sha256`.

    `form` and `layers` are those of its inspection, `families` as in SanitizeTicket, `original` a TorchScript archive that may be run. With
    `baseline` nothing is read: what knows nothing of
    its input is marked instead.
    """

    submission: int
    path: str
    rubric: str
    rubric_sha256: str
    form: Form | None = None
    layers: tuple[Layer, ...] = ()
    families: tuple[str, ...] = ()
    original: Original | None = None
    baseline: bool = False


Ticket = SanitizeTicket | MarkTicket


# What it says


class Sanitized(Record, tag="sanitized"):
    inspection: Inspection


class Marked(Record, tag="marked"):
    """`fingerprint` is None where nobody wants to compare."""

    evaluation: Evaluation
    fingerprint: Fingerprint | None = None


class Refused(Record, tag="refused"):
    """The model does not fit the rubric, or misbehaves: the submitter's."""

    findings: tuple[Finding, ...]


DEVICE_ERROR = "device-error"  # a reason: the GPU failed its worker, which is as good as lost


class Failed(Record, tag="failed"):
    """Safe, but it could not be marked. `findings` say so to the submitter, where it was theirs (fifomark.core.overruns)."""

    reason: Reason
    findings: tuple[Finding, ...] = ()


class Lost(Record, tag="lost"):
    """The worker died; `how` says by what, `began` whether it had come so far as to take tickets, `memory` whether the system ended it for
    want of memory. Made by the pool, never by a worker."""

    how: str
    began: bool = True
    memory: bool = False


Outcome = Sanitized | Marked | Refused | Failed | Lost
