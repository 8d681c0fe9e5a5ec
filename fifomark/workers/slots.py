"""Slots: the units of compute that workers are bound to.

A slot is decided before its worker's interpreter imports torch, by CUDA_VISIBLE_DEVICES and the thread variables, so that a worker
can neither see nor use what is another's. This process never asks torch or CUDA: `cuInit` in a parent poisons its children.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from fifomark.core.errors import ConfigError
from fifomark.core.record import Record

_CPU = re.compile(r"cpu(?::(?P<threads>[1-9][0-9]{0,2}))?$")
_CUDA = re.compile(r"cuda:(?P<device>[0-9]{1,3}|GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+)$")


class Slot(Record):
    """`visible` is what its worker sees as CUDA_VISIBLE_DEVICES ("" hides every GPU); `threads` its CPU threads."""

    name: str
    device: str
    visible: str
    threads: int = 1

    def environment(self) -> dict[str, str]:
        """What must stand in the worker's environment before torch is imported."""
        threads = str(self.threads)
        return {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": self.visible,
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS does not repeat its results
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }


def find_slots(
    wanted: str | Sequence[str], environment: Mapping[str, str] = os.environ, file: object = "fifomark.toml"
) -> tuple[Slot, ...]:
    """The slots that the settings ask for. "auto": one for each GPU, or, where there is none, one for each CPU core with one thread.

    A CUDA_VISIBLE_DEVICES that the operator set for this process is obeyed: only those GPUs are found.
    """
    if isinstance(wanted, str):
        gpus = _visible_gpus(environment)
        return tuple(_gpu(gpu) for gpu in gpus) or tuple(
            Slot(name=f"cpu:{i}", device="cpu", visible="") for i in range(len(os.sched_getaffinity(0)))
        )
    return tuple(_parsed(text, i, file) for i, text in enumerate(wanted))


def _parsed(text: str, position: int, file: object) -> Slot:
    if cpu := _CPU.match(text):
        return Slot(name=f"cpu:{position}", device="cpu", visible="", threads=int(cpu["threads"] or 1))
    if cuda := _CUDA.match(text):
        return _gpu(cuda["device"], suffix=f"#{position}")
    raise ConfigError(file, f"slots[{position}]", f"{text!r} is no slot", 'write "cpu", "cpu:2" (two threads), "cuda:0" or "cuda:GPU-…"')


def _gpu(device: str, suffix: str = "") -> Slot:
    return Slot(name=f"cuda:{device}{suffix}", device="cuda", visible=device)


def _visible_gpus(environment: Mapping[str, str]) -> list[str]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() and device.strip() != "-1"]
    return _installed_gpus()


def _installed_gpus() -> list[str]:
    """UUIDs of the machine's GPUs as NVML lists them; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()
