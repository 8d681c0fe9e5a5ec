"""The machine's GPUs as NVML tells of them. NVML makes no CUDA context, so the daemon may ask; where there is no driver, nobody knows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)
_GONE = ("GpuIsLost", "ResetRequired", "NotFound", "GpuNotFound")  # NVML's errors after which a GPU does no more work


class Gpu(NamedTuple):
    """`name` is its UUID, or a number where nobody knows that; `instances` are its MIG instances, on which alone it can then be used."""

    name: str
    memory_bytes: int | None = None
    instances: tuple[Gpu, ...] = ()


def installed() -> list[Gpu]:
    """All GPUs in the order of their PCI addresses; one that has fallen off the bus is logged, and none of them. Empty without a driver."""
    found: list[Gpu] = []
    with _nvml() as nvml:
        for i in range(nvml.nvmlDeviceGetCount() if nvml else 0):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(i)
                found.append(_gpu(nvml, handle)._replace(instances=tuple(_instances(nvml, handle))))
            except nvml.NVMLError as e:
                _log.warning("GPU %d is left out: NVML says %s", i, e)
    return found


def free_bytes(name: str) -> int | None:
    """What is free of the memory of a GPU or MIG instance; None where nobody knows."""
    with _nvml() as nvml, contextlib.suppress(*_errors(nvml)):
        return None if nvml is None else int(nvml.nvmlDeviceGetMemoryInfo(_handle(nvml, name)).free)
    return None


def trouble(name: str) -> str | None:
    """Why a GPU can do no more work, in NVML's words; None where it can, or nobody knows."""
    with _nvml() as nvml:
        if nvml is None:
            return None
        try:
            nvml.nvmlDeviceGetMemoryInfo(_handle(nvml, name))
        except nvml.NVMLError as e:
            return str(e) if type(e).__name__.removeprefix("NVMLError_") in _GONE else None
    return None


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """pynvml, ready to be asked; None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _errors(nvml: ModuleType | None) -> tuple[type[Exception], ...]:
    return () if nvml is None else (nvml.NVMLError,)


def _handle(nvml: Any, name: str) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else nvml.nvmlDeviceGetHandleByUUID(name)


def _gpu(nvml: Any, handle: Any) -> Gpu:
    try:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError_NotSupported:  # it has none of its own
        memory = None
    return Gpu(str(nvml.nvmlDeviceGetUUID(handle)), memory)


def _instances(nvml: Any, handle: Any) -> Iterator[Gpu]:
    try:
        split, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # a kind of GPU that cannot be split
        return
    for i in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if split else 0):
        with contextlib.suppress(nvml.NVMLError_NotFound):  # places may be empty
            yield _gpu(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))
