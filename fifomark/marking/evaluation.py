"""One mark: a clean file against a rubric. What a submitter can do wrong comes back as a value, never as an exception."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from time import perf_counter

import torch
from msgspec.structs import replace
from torch import Tensor

from fifomark.core.catalogue import find
from fifomark.core.errors import ConfigError
from fifomark.core.findings import Finding, verdict_of
from fifomark.core.outcome import Audit, Cost, Evaluation, Failed, Marked, MarkTicket, Metric, Outcome, Reason, Refused
from fifomark.core.text import shown
from fifomark.marking import audits
from fifomark.marking.bench import Bench, LoadedRubric, RubricChanged
from fifomark.marking.fingerprint import fingerprint
from fifomark.marking.metrics import Meter, of_model
from fifomark.marking.model import Built, rebuild
from fifomark.marking.rubric import FILE_NAME
from fifomark.marking.running import Examples, Misbehaved, OutOfMemory, Runner
from fifomark.marking.schema import Rubric

__all__ = ["Bench", "evaluate"]

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_log = logging.getLogger(__name__)


def evaluate(ticket: MarkTicket, bench: Bench) -> Outcome:
    """Mark the clean file at `ticket.path`: Marked, Refused where the model is at fault, Failed where we or the rubric are."""
    started = perf_counter()
    try:
        loaded = bench.load(ticket)
        device = bench.prepare(loaded)
        # The clean file is our own writing; weights_only all the same.
        weights = torch.load(ticket.path, map_location="cpu", weights_only=True, mmap=True)
        built = rebuild(weights, loaded.rubric, os.path.join(ticket.rubric, FILE_NAME))
        marked = built if isinstance(built, Refused) else _marked(built, loaded, device, started)
        compared = isinstance(marked, Marked) and loaded.rubric.audits.duplicates != "off"
        return replace(marked, fingerprint=fingerprint(weights)) if compared else marked
    except Misbehaved as e:
        return Refused(findings=(e.finding,))
    except RubricChanged as e:
        return Failed(reason=Reason(code="rubric-changed", message=str(e), blame="operator"))
    except ConfigError as e:
        return Failed(reason=Reason(code="rubric-error", message=str(e), blame="operator"))
    except Exception as e:
        _log.exception("submission %d could not be marked", ticket.submission)
        return Failed(reason=Reason(code="internal-error", message=f"{type(e).__name__}: {shown(str(e), 500)}", blame="operator"))


def _marked(built: Built, loaded: LoadedRubric, device: torch.device, started: float) -> Marked | Refused:
    rubric = loaded.rubric
    runner = Runner(built.model, rubric.task, device, _PRECISIONS[rubric.run.precision])
    seen = measure(runner, rubric, loaded.splits)
    if verdict_of(seen.findings).refuses:
        return Refused(findings=seen.findings)
    evaluation = Evaluation(
        rubric_sha256=loaded.sha256,
        dataset_sha256=loaded.data_sha256,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        metrics=(*seen.metrics, *of_model(rubric, built.parameters)),
        audits=seen.audits,
        cost=Cost(forward_seconds=seen.seconds, total_seconds=perf_counter() - started),
        findings=seen.findings,
        declared=dict(built.declared),
        assumed=built.assumed,
        torch_version=str(torch.__version__),  # a TorchVersion is more than a string
    )
    return Marked(evaluation=evaluation)


@dataclass(frozen=True)
class Measured:
    """What running a model over the data came to; `seconds` are those of the forward passes, and of feeding the metrics."""

    metrics: tuple[Metric, ...]
    audits: tuple[Audit, ...]
    findings: tuple[Finding, ...]
    seconds: float


def measure(runner: Runner, rubric: Rubric, splits: tuple[Examples, ...]) -> Measured:
    """Every metric on every split, and the audits. Misbehaved where the model does what no model may.

    Where memory runs out, everything is run again with half the batch, so that all examples see the same size.
    """
    wanted = batch = rubric.run.batch_size
    while True:
        try:
            probe = audits.Probe(runner, splits[0].inputs, splits[0].labels, batch)
            started = perf_counter()
            meters = [Meter(rubric, split.name) for split in splits]
            first, *_ = [_fed(meter, runner, split, batch) for meter, split in zip(meters, splits, strict=True)]
            seconds = perf_counter() - started
            audited = probe.audit(rubric.audits, first, batch)
            break
        except OutOfMemory:
            if batch == 1:
                message = "the model does not fit into memory, even with one example at a time"
                raise Misbehaved(find("FM602", "forward", message)) from None
        if runner.device.type == "cuda":
            torch.cuda.empty_cache()
        batch //= 2
    halved = Audit(id="memory", passed=False, message=f"out of memory with {wanted} examples at once: marked with {batch}")
    return Measured(
        metrics=tuple(metric for meter in meters for metric in meter.metrics()),
        audits=(*audited.audits, *([halved] if batch != wanted else [])),
        findings=(*audited.findings, *audits.constant(first, rubric.audits.constant)),
        seconds=seconds,
    )


def _fed(meter: Meter, runner: Runner, split: Examples, batch: int) -> Tensor:
    """Run a split through the model into its meter; gives the first outputs, enough of them for the audits."""
    first: list[Tensor] = []
    kept = 0
    for outputs, labels in runner.batches(split.inputs, split.labels, batch):
        meter.update(outputs, labels)
        if kept < audits.EXAMPLES:
            first.append(outputs)
            kept += len(outputs)
    return torch.cat(first)
