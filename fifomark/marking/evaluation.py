"""One mark: a clean file against a rubric. What a submitter can do wrong comes back as a value, never as an exception."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from time import perf_counter

import torch
from torch import Tensor, nn

from fifomark.core.catalogue import find
from fifomark.core.errors import ConfigError
from fifomark.core.findings import Finding
from fifomark.core.outcome import Audit, Cost, Evaluation, Failed, Marked, MarkTicket, Outcome, Reason, Refused
from fifomark.core.text import shown
from fifomark.marking.bench import Bench, LoadedRubric, RubricChanged
from fifomark.marking.metrics import measure
from fifomark.marking.model import Built, rebuild
from fifomark.marking.rubric import FILE_NAME

__all__ = ["Bench", "evaluate"]

_CONSTANT = 1e-6  # outputs that differ by less than this share of their size are the same
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
        return built if isinstance(built, Refused) else _marked(built, loaded, device, started)
    except RubricChanged as e:
        return Failed(reason=Reason(code="rubric-changed", message=str(e), blame="operator"))
    except ConfigError as e:
        return Failed(reason=Reason(code="rubric-error", message=str(e), blame="operator"))
    except Exception as e:
        _log.exception("submission %d could not be marked", ticket.submission)
        return Failed(reason=Reason(code="internal-error", message=f"{type(e).__name__}: {shown(str(e), 500)}", blame="operator"))


def _marked(built: Built, loaded: LoadedRubric, device: torch.device, started: float) -> Marked | Refused:
    rubric, classes = loaded.rubric, loaded.rubric.task.num_classes
    probe = run(built.model, loaded.inputs[:2], 2, classes, device)
    if isinstance(probe, Finding):
        return Refused(findings=(probe,))
    forward_started = perf_counter()
    ran = run(built.model, loaded.inputs, rubric.run.batch_size, classes, device)
    forward_seconds = perf_counter() - forward_started
    if isinstance(ran, Finding):
        return Refused(findings=(ran,))
    outputs, batch = ran
    evaluation = Evaluation(
        rubric_sha256=loaded.sha256,
        dataset_sha256=loaded.data_sha256,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        metrics=measure(rubric, outputs, loaded.labels, built.parameters),
        audits=tuple(_audits(rubric.run.batch_size, batch)),
        cost=Cost(forward_seconds=forward_seconds, total_seconds=perf_counter() - started),
        findings=tuple(_constant(outputs)),
        declared=dict(built.declared),
        assumed=built.assumed,
        torch_version=str(torch.__version__),  # a TorchVersion is more than a string
    )
    return Marked(evaluation=evaluation)


def run(model: nn.Module, inputs: Tensor, batch: int, classes: int, device: torch.device) -> tuple[Tensor, int] | Finding:
    """(finite outputs (n, classes) float32 on the CPU, the batch size that did it), or what is wrong with the model.

    Where memory runs out, everything is run again with half the batch, so that all rows see the same size.
    """
    while True:
        try:
            outputs = _in_batches(model, inputs, batch, classes, device)
            return outputs if isinstance(outputs, Finding) else (outputs, batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                return find("FM602", "forward", "the model does not fit into memory, even with one example at a time")
        torch.cuda.empty_cache()
        batch //= 2


def _in_batches(model: nn.Module, inputs: Tensor, batch: int, classes: int, device: torch.device) -> Tensor | Finding:
    model.to(device)
    done: list[Tensor] = []
    with torch.inference_mode():
        for part in torch.split(inputs, batch):
            outputs = _forward(model, part.to(device), classes)
            if isinstance(outputs, Finding):
                return outputs
            done.append(outputs.float().cpu())
    return torch.cat(done)


def _forward(model: nn.Module, inputs: Tensor, classes: int) -> Tensor | Finding:
    try:
        outputs: object = model(inputs)
    except Exception as e:
        if isinstance(e, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(e):
            raise torch.OutOfMemoryError(str(e)) from e
        message = f"the forward pass raised {type(e).__name__}: {_first_line(e)}"
        return find("FM603", "forward", message, evidence=f"input of shape {tuple(inputs.shape)}")
    wanted = (len(inputs), classes)
    if not isinstance(outputs, Tensor):
        return find("FM604", "outputs", f"the model returned {type(outputs).__name__}, expected a tensor of shape {wanted}")
    if tuple(outputs.shape) != wanted or not outputs.is_floating_point():
        found = f"{str(outputs.dtype).removeprefix('torch.')} of shape {tuple(outputs.shape)}"
        return find("FM604", "outputs", f"the model returned {found}, expected floats of shape {wanted}")
    if broken := int((~outputs.isfinite()).any(dim=1).sum()):
        return find("FM605", "outputs", f"NaN or Inf in the outputs for {broken} of {len(inputs)} examples of a batch")
    return outputs


def _audits(wanted: int, used: int) -> Iterator[Audit]:
    if used != wanted:
        yield Audit(id="batch-size", passed=False, message=f"out of memory with {wanted} examples at once: marked with {used}")


def _constant(outputs: Tensor) -> Iterator[Finding]:
    spread = float((outputs.amax(dim=0) - outputs.amin(dim=0)).max())
    if len(outputs) > 1 and spread <= _CONSTANT * float(outputs.abs().max()):
        yield find("FM606", "outputs", f"the outputs for all {len(outputs)} examples are the same")


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [""])[0], 300)
