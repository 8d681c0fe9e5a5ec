"""A model run on inputs: whatever goes wrong in it is a finding, never an exception of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.marking.filling import cast
from fifomark.marking.mishaps import explained
from fifomark.marking.schema import Task
from fifomark.marking.tasks import output_shape
from fifomark.marking.terms import SplitName

PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}  # as Run.precision names them
_ROUNDING = 1e-3  # of a sum of probabilities, in bfloat16 too
_NO_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")  # what else than torch.OutOfMemoryError says it
Inputs = Sequence[Tensor]  # one for each argument of the model, all with as many examples


@dataclass(frozen=True)
class Examples:
    """A split of the data as tensors, labels on the CPU, inputs where the bench keeps them: see fifomark.marking.data.Split."""

    name: SplitName
    inputs: tuple[Tensor, ...]
    labels: Tensor


class Misbehaved(Exception):
    """The model is at fault."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class TookTooLong(Exception):
    """The model was given all the time that it may take."""


class OutOfMemory(Exception):
    """It did not fit into memory: fewer examples at once may."""


@dataclass
class Runner:
    """A model in eval mode on `device`, in `dtype`, asked by batches."""

    model: nn.Module
    task: Task
    device: torch.device
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not all(self._is_in_place(tensor) for tensor in chain(self.model.parameters(), self.model.buffers())):
            cast(self.model.to(self.device), self.dtype)

    def _is_in_place(self, tensor: Tensor) -> bool:
        return tensor.device == self.device and (tensor.dtype is self.dtype or not tensor.is_floating_point()) and not tensor.is_complex()

    def outputs(self, inputs: Inputs, labels: tuple[int, ...]) -> Tensor:
        """Finite numbers of the task's output shape, on the CPU, in float32 or float64. `labels` is the shape of the examples' labels.

        Misbehaved where the model gives anything else, OutOfMemory where it cannot be run on so many at once.
        """
        with torch.inference_mode():
            outputs = self._forward(self.placed(inputs))
            wanted = output_shape(self.task, len(inputs[0]), labels)
            shaped = _shaped(outputs, wanted).cpu()
            if self.dtype is not torch.float64:
                shaped = shaped.float()
            if not shaped.isfinite().all():
                broken = int((~shaped.isfinite()).flatten(1).any(dim=1).sum())
                message = f"NaN or Inf in the outputs for {broken} of {len(shaped)} examples of a batch"
                raise Misbehaved(find("FM605", "outputs", message))
            return _as_said(shaped, self.task)

    def batches(self, inputs: Inputs, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(outputs, labels) of `size` examples at a time, in their order."""
        for at in range(0, len(labels), size):
            some = labels[at : at + size]
            yield self.outputs([tensor[at : at + size] for tensor in inputs], tuple(some.shape)), some

    def placed(self, inputs: Inputs) -> list[Tensor]:
        """Copies of the inputs where the model is, in what it computes in: what it does to them in place shall not reach the data, which
        those that come after it are marked on."""
        return [
            tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype, non_blocking=True, copy=True)  # if pinned
            for tensor in inputs
        ]

    def _forward(self, inputs: Inputs) -> object:
        try:
            outputs = self.model(*inputs)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # what goes wrong on a GPU is told later
            return outputs
        except (Misbehaved, TookTooLong):
            raise
        except Exception as e:
            if isinstance(e, (torch.OutOfMemoryError, MemoryError)) or any(words in str(e) for words in _NO_MEMORY):
                raise OutOfMemory from e
            if of_device(e):
                raise
            message, advice = explained(e, self.model, inputs)
            evidence = "input of shape " + " and ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise Misbehaved(find("FM603", "forward", message, evidence=evidence, advice=advice)) from e


def of_device(error: Exception) -> bool:
    """Whether CUDA failed, so that nothing is known of the model; not where a model asks for what is not there (an index out of range)."""
    return "CUDA error" in str(error) and "device-side assert" not in str(error)


def _shaped(outputs: object, wanted: tuple[int, ...]) -> Tensor:
    """The outputs as floats of the shape that is wanted, of which a last axis of length 1 may be missing."""
    if not isinstance(outputs, Tensor):
        raise Misbehaved(find("FM604", "outputs", f"the model returned {type(outputs).__name__}, expected a tensor of shape {wanted}"))
    allowed = (wanted, wanted[:-1]) if wanted[-1] == 1 else (wanted,)
    if tuple(outputs.shape) not in allowed or not outputs.is_floating_point():
        found = f"{str(outputs.dtype).removeprefix('torch.')} of shape {tuple(outputs.shape)}"
        raise Misbehaved(find("FM604", "outputs", f"the model returned {found}, expected floats of shape {wanted}"))
    return outputs.reshape(wanted)


def _as_said(outputs: Tensor, task: Task) -> Tensor:
    """Probabilities, or their logarithms, where the task asks for these; what is only rounding is cut off."""
    if task.output == "logits" or task.type == "regression":
        return outputs
    shares = outputs.exp() if task.output == "log-probabilities" else outputs
    off = float(torch.maximum(shares.max() - 1, -shares.min()))
    if task.type not in ("binary-classification", "multilabel-classification"):
        off = max(off, float((shares.sum(-1) - 1).abs().max()))
    if off > _ROUNDING:
        message = f"the outputs are no {task.output}: they are off by {off:.3g}"
        advice = "End the model in softmax (or log_softmax, or sigmoid), or ask whoever runs the marking for output = 'logits'."
        raise Misbehaved(find("FM604", "outputs", message, advice=advice))
    return outputs.clamp(max=0) if task.output == "log-probabilities" else outputs.clamp(0, 1)
