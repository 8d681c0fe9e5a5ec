"""NVML as if this machine had GPUs: what pynvml would say, decided by the test."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest

GIB = 1 << 30


class NVMLError(Exception):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


@dataclass
class FakeGpu:
    """`instances`: None where it cannot be split; places in it may be empty. `memory` None: it has none of its own."""

    uuid: str
    memory: int | None = 24 * GIB
    used: int = 0
    instances: list[FakeGpu | None] | None = None
    lost: bool = False


@dataclass
class FakeNvml:
    gpus: list[FakeGpu] = field(default_factory=list)
    driver: bool = True
    open: int = 0  # initialised more often than shut down

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
        module = ModuleType("pynvml")
        for error in (NVMLError, NVMLError_NotFound, NVMLError_NotSupported, NVMLError_GpuIsLost, NVMLError_DriverNotLoaded):
            setattr(module, error.__name__, error)
        for name in dir(self):
            if name.startswith("nvml"):
                setattr(module, name, getattr(self, name))
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return self

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError_DriverNotLoaded("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        assert self.open > 0
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._reached(self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        every = [gpu for whole in self.gpus for gpu in (whole, *(whole.instances or ())) if gpu is not None]
        found = [gpu for gpu in every if gpu.uuid == uuid]
        if not found:
            raise NVMLError_NotFound("Not Found")
        return self._reached(found[0])

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> SimpleNamespace:
        if handle.memory is None:
            raise NVMLError_NotSupported("Not Supported")
        return SimpleNamespace(total=handle.memory, used=handle.used, free=handle.memory - handle.used)

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if handle.instances is None:
            raise NVMLError_NotSupported("Not Supported")
        return [int(bool(handle.instances))] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return len(handle.instances or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeGpu:
        instance = (handle.instances or [])[index]
        if instance is None:
            raise NVMLError_NotFound("Not Found")
        return instance

    def _reached(self, gpu: FakeGpu) -> FakeGpu:
        assert self.open > 0
        if gpu.lost:
            raise NVMLError_GpuIsLost("GPU is lost")
        return gpu
