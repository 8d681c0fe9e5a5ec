"""What a model costs: how many numbers it holds, how much it computes, how long one example takes, how much memory a batch needs.

Measured on the data's own first examples, and only where the rubric asks for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fifomark.core.outcome import Metric
from fifomark.marking.metric_names import BUILT_IN, more_is_better
from fifomark.marking.running import Examples, Runner
from fifomark.marking.schema import Rubric
from fifomark.marking.scripts import Script

_WARM_UP, _LEAST, _MOST, _SECONDS = 5, 30, 300, 1.0  # runs of one example

METHODS: Mapping[str, str] = {
    "parameters": "trained numbers, ties once",
    "bytes": "of parameters and buffers as they are run (run.precision), ties once",
    "macs": "torch.utils.flop_counter / 2, one example, without fused kernels",
    "latency_ms": "median, one example at a time",
    "latency_p90_ms": "90th percentile, one example at a time",
    "peak_memory_mib": "tensors alive in a forward pass of one batch, parameters included, without fused kernels",
}


def of_model(rubric: Rubric, runner: Runner, parameters: int, examples: Examples) -> tuple[Metric, ...]:
    """The rubric's metrics of the model itself. Misbehaved or OutOfMemory as of Runner.outputs."""
    wanted = [rule for rule in rubric.metrics if rule.kind in BUILT_IN]
    timed = _latencies(runner, examples) if any(rule.kind.startswith("latency") for rule in wanted) else []
    measured: dict[str, Callable[[], float]] = {
        "parameters": lambda: float(parameters),
        "bytes": lambda: float(_bytes(runner.model)),
        "macs": lambda: float(macs(runner, examples)),
        "latency_ms": lambda: median(timed) * 1e3,
        "latency_p90_ms": lambda: quantiles(timed, n=10)[-1] * 1e3,
        "peak_memory_mib": lambda: _peak(runner, examples, rubric.run.batch_size) / (1 << 20),
    }
    return tuple(
        Metric(
            id=rule.id,
            split="all",
            value=measured[rule.kind](),
            n=0,
            higher_is_better=more_is_better(rule),
            method=METHODS[rule.kind],
        )
        for rule in wanted
    )


def macs(runner: Runner, examples: Examples) -> int:
    """Multiplications with an addition in the forward pass of one example.

    torch's own counter, which says nothing of kernels that are fused: attention and recurrent layers are run without these.
    """
    inputs = runner.placed(_first(examples, 1))
    return runner.model.macs(inputs) if isinstance(runner.model, Script) else macs_of(runner.model, inputs)


def macs_of(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The same for all of `inputs`."""
    counter = FlopCounterMode(display=False)
    with _unfused(), torch.no_grad(), counter:
        model(*inputs)
    return counter.get_total_flops() // 2


@contextmanager
def _unfused() -> Iterator[None]:
    """Attention and recurrent layers step by step: of a fused kernel nothing is seen but what it gives."""
    fused, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.backends.mkldnn.set_flags(_enabled=onednn)  # type: ignore[no-untyped-call]


def _latencies(runner: Runner, examples: Examples) -> list[float]:
    """Seconds of each run."""
    one, shape = _first(examples, 1), tuple(examples.labels[:1].shape)
    taken: list[float] = []
    for run in range(_WARM_UP + _MOST):
        started = perf_counter()
        runner.outputs(one, shape)
        if run >= _WARM_UP:
            taken.append(perf_counter() - started)
        if len(taken) >= _LEAST and sum(taken) > _SECONDS:
            break
    return taken


def _bytes(model: nn.Module) -> int:
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    return sum(tensors.values())


def _peak(runner: Runner, examples: Examples, batch: int) -> int:
    inputs = runner.placed(_first(examples, batch))
    if runner.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runner.device)
        with torch.inference_mode():
            runner.model(*inputs)
        return torch.cuda.max_memory_allocated(runner.device)
    return runner.model.peak_bytes(inputs) if isinstance(runner.model, Script) else peak_bytes_of(runner.model, inputs)


def peak_bytes_of(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Bytes of the tensors that are alive at once while the model runs on the CPU: its own, `inputs`, and what it makes of them."""
    watch = _Alive()
    with _unfused(), torch.no_grad(), watch:
        model(*inputs)
    return watch.most + _bytes(model) + sum(tensor.nbytes for tensor in inputs)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations make, as long as they are there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage(), given)
        return result

    def _see(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in self._known or key in given:
            return
        self._known.add(key)
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self._now -= nbytes


def _first(examples: Examples, count: int) -> list[Tensor]:
    return [tensor[:count] for tensor in examples.inputs]
