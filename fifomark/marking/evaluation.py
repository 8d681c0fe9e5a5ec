"""One mark: a clean file against a rubric. What a submitter can do wrong comes back as a value, never as an exception."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

import torch
from msgspec.structs import replace
from torch import Tensor

from fifomark import plugins
from fifomark.core.catalogue import find
from fifomark.core.errors import ConfigError, InternalError, PluginFailed
from fifomark.core.findings import Finding, verdict_of
from fifomark.core.outcome import (
    DEVICE_ERROR,
    Audit,
    Cost,
    Details,
    Evaluation,
    Failed,
    Marked,
    MarkTicket,
    Metric,
    Outcome,
    PluginUsed,
    Reason,
    Refused,
)
from fifomark.core.overruns import overrun, too_long
from fifomark.core.text import shown
from fifomark.families import registry
from fifomark.marking import audits
from fifomark.marking.baseline import Baseline
from fifomark.marking.bench import Bench, LoadedRubric, RubricChanged
from fifomark.marking.clean_file import load_clean
from fifomark.marking.cost import macs, of_model
from fifomark.marking.fingerprint import fingerprint
from fifomark.marking.forms import not_accepted
from fifomark.marking.metrics import Meter
from fifomark.marking.model import Built, Material, rebuild
from fifomark.marking.python import said
from fifomark.marking.rubric import FILE_NAME
from fifomark.marking.running import PRECISIONS, Examples, Misbehaved, OutOfMemory, Runner, TookTooLong, of_device
from fifomark.marking.schema import Rubric
from fifomark.marking.scripts import Script

__all__ = ["Bench", "evaluate"]

_log = logging.getLogger(__name__)


def evaluate(ticket: MarkTicket, bench: Bench) -> Outcome:
    """Mark the clean file at `ticket.path`: Marked, Refused where the model is at fault, Failed where we or the rubric are."""
    started = perf_counter()
    try:
        loaded = bench.load(ticket)
        if unwanted := not_accepted(ticket.form, loaded.rubric.submission.accept):
            return Refused(findings=(unwanted,))
        device = bench.prepare(loaded)
        if ticket.baseline:
            return _marked(_baseline(loaded), loaded, device, started)
        weights = load_clean(ticket.path)
        built = _built(ticket, loaded, weights)
        marked = built if isinstance(built, Refused) else _marked(built, loaded, device, started)
        compared = isinstance(marked, Marked) and loaded.rubric.audits.duplicates != "off"
        return replace(marked, fingerprint=fingerprint(weights)) if compared else marked
    except Misbehaved as e:
        plugin = plugins.responsible(e)
        return Refused(findings=(e.finding,)) if plugin is None else _failed(plugin)
    except TookTooLong:
        return overrun("FM601", too_long(ticket.original.seconds if ticket.original else None))
    except RubricChanged as e:
        return Failed(reason=Reason(code="rubric-changed", message=str(e), blame="operator"))
    except ConfigError as e:
        return Failed(reason=Reason(code="rubric-error", message=str(e), blame="operator"))
    except (SystemExit, KeyboardInterrupt) as e:  # nothing of ours ends here: it is code of the operator's, which shall not end the worker
        _log.exception("submission %d could not be marked", ticket.submission)
        return _failed(plugins.responsible(e) or InternalError(f"the rubric's own Python raised {said(e, ticket.rubric)}"))
    except Exception as e:
        _log.exception("submission %d could not be marked", ticket.submission)
        if of_device(e):
            return Failed(reason=Reason(code=DEVICE_ERROR, message=f"its GPU failed: {shown(str(e), 300)}", blame="operator"))
        return _failed(plugins.responsible(e) or e)


def _built(ticket: MarkTicket, loaded: LoadedRubric, weights: dict[str, Tensor]) -> Built | Refused:
    families = registry.with_plugins((*ticket.families, *loaded.rubric.model.families))
    original = ticket.original if loaded.rubric.model.torchscript and ticket.form == "torchscript" else None
    given = Material(weights, ticket.form, ticket.layers, families, original)
    return rebuild(given, loaded.rubric, os.path.join(ticket.rubric, FILE_NAME), loaded.factory)


def _baseline(loaded: LoadedRubric) -> Built:
    labels = torch.cat([split.labels for split in loaded.splits])
    return Built(Baseline(loaded.rubric.task, labels), parameters=0, declared={}, assumed=(), source="baseline")


def _failed(error: Exception) -> Failed:
    message = str(error) if isinstance(error, (PluginFailed, InternalError)) else f"{type(error).__name__}: {error}"
    return Failed(reason=Reason(code="internal-error", message=shown(message, 500), blame="operator"))


def _marked(built: Built, loaded: LoadedRubric, device: torch.device, started: float) -> Marked | Refused:
    with closing(built):
        return _run(built, loaded, torch.device("cpu") if isinstance(built.model, Script) else device, started)


def _run(built: Built, loaded: LoadedRubric, device: torch.device, started: float) -> Marked | Refused:
    rubric = loaded.rubric
    runner = Runner(built.model, rubric.task, device, PRECISIONS[rubric.run.precision])
    try:
        if finding := _too_costly(rubric, runner, loaded.splits[0]):
            return Refused(findings=(finding,))
        seen = measure(runner, rubric, loaded.splits, loaded.meters)
    except Misbehaved as e:
        if e.finding.code in ("FM603", "FM604") and built.family is not None and built.family not in registry.FAMILIES:
            raise plugins.failed(plugins.load(plugins.FAMILIES, built.family).used, e) from e  # what it builds, runs
        raise
    if verdict_of(seen.findings).refuses:
        return Refused(findings=seen.findings)
    evaluation = Evaluation(
        rubric_sha256=loaded.sha256,
        dataset_sha256=loaded.data_sha256,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        metrics=(*seen.metrics, *of_model(rubric, runner, built.parameters, loaded.splits[0])),
        audits=seen.audits,
        cost=Cost(forward_seconds=seen.seconds, total_seconds=perf_counter() - started),
        findings=seen.findings,
        declared=dict(built.declared),
        assumed=built.assumed,
        torch_version=str(torch.__version__),  # a TorchVersion is more than a string
        source=built.source,
        sandbox=built.model.sandbox.words if isinstance(built.model, Script) else None,
        details=seen.details,
        plugins=tuple(_plugins(rubric, built.family)),
    )
    return Marked(evaluation=evaluation)


def _plugins(rubric: Rubric, family: str | None) -> Iterator[PluginUsed]:
    """The plugins that had a part in a mark: the family that built the model, the data set, the metrics."""
    if family is not None and family not in registry.FAMILIES:
        yield plugins.load(plugins.FAMILIES, family).used
    named = [(plugins.DATASETS, rubric.data.factory or ""), *((plugins.METRICS, metric.kind) for metric in rubric.metrics)]
    for group, reference in dict.fromkeys(named):
        if reference.startswith(plugins.PREFIX):
            yield plugins.load(group, reference.removeprefix(plugins.PREFIX)).used


@dataclass(frozen=True)
class Measured:
    """What running a model over the data came to; `seconds` are those of the forward passes, and of feeding the metrics."""

    metrics: tuple[Metric, ...]
    audits: tuple[Audit, ...]
    findings: tuple[Finding, ...]
    seconds: float
    details: tuple[Details, ...] = ()


def _too_costly(rubric: Rubric, runner: Runner, examples: Examples) -> Finding | None:
    most = rubric.model.max_macs
    if most is None:
        return None
    audits.Probe(runner, examples.inputs, examples.labels, rubric.run.batch_size)  # what does not run at all is told as that
    found = macs(runner, examples)
    return find("FM508", "model", f"{found:,} multiplications an example, where at most {most:,} are allowed") if found > most else None


def measure(runner: Runner, rubric: Rubric, splits: tuple[Examples, ...], meters: tuple[Meter, ...]) -> Measured:
    """Every metric on every split, by its meter, and the audits. Misbehaved where the model does what no model may.

    Where memory runs out, everything is run again with half the batch, so that all examples see the same size.
    """
    wanted = batch = rubric.run.batch_size
    while True:
        try:
            probe = audits.Probe(runner, splits[0].inputs, splits[0].labels, batch)
            started = perf_counter()
            for meter in meters:
                meter.reset()
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
        details=tuple(details for meter in meters if (details := meter.details()) is not None),
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
