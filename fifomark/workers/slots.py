"""Slots: the units of compute that workers are bound to (docs/slots.md).

A slot is decided before its worker's interpreter imports torch, by CUDA_VISIBLE_DEVICES and the thread variables, so that a worker
can neither see nor use what is another's. This process never asks torch or CUDA: `cuInit` in a parent poisons its children.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import takewhile
from typing import NamedTuple

from msgspec.structs import replace

from fifomark.core.errors import ConfigError
from fifomark.core.record import Record
from fifomark.workers import gpus, machine
from fifomark.workers.gpus import Gpu

_ENTRY = re.compile(
    r"cpu(?::(?P<threads>[1-9][0-9]{0,2}))?"
    r"|cuda:(?P<gpu>[0-9]{1,3}|GPU-[0-9a-fA-F-]+|MIG-GPU-[0-9a-fA-F-]+/[0-9]+/[0-9]+|MIG-[0-9a-fA-F-]+)(?:/(?P<shares>[1-9][0-9]?))?"
)
_HOW = '"cpu", "cpu:2" (two threads), "cuda:0", "cuda:GPU-…", "cuda:MIG-…", or "cuda:0/2" (a half of it)'
_LEAST_BYTES = 1 << 30  # of the machine's memory for each core that "auto" puts to work: torch itself takes a third of that


class Slot(Record):
    """`visible` is what its worker sees as CUDA_VISIBLE_DEVICES ("" hides every GPU); `threads` its CPU threads, which stay on `cores`.

    `memory_bytes` is what a submission may have there, of the GPU or of the machine (None: nobody knows); `share` is of the GPU's memory.
    """

    name: str
    device: str
    visible: str
    threads: int = 1
    cores: tuple[int, ...] = ()
    memory_bytes: int | None = None
    share: float = 1.0

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


class _Here(NamedTuple):
    """The GPUs that may be used, in the order in which "cuda:0" counts them. Not `known`: nobody can tell, and names are believed."""

    gpus: tuple[Gpu, ...]
    known: bool

    def usable(self) -> tuple[Gpu, ...]:
        return tuple(part for gpu in self.gpus for part in (gpu.instances or (gpu,)))


def find_slots(
    wanted: str | Sequence[str],
    environment: Mapping[str, str] = os.environ,
    file: object = "fifomark.toml",
    cpu_memory_bytes: int | None = None,
) -> tuple[Slot, ...]:
    """The slots that the settings ask for. "auto": one for each GPU or MIG instance, or, where there is none, for each CPU core.

    A CUDA_VISIBLE_DEVICES that the operator set for this process is obeyed: only those GPUs are found. `cpu_memory_bytes` is what each slot
    of the CPU has, the whole machine's where nothing is said. ConfigError names `file`, the entry, and what could stand there.
    """
    on_gpus = wanted == "auto" or any(text.startswith("cuda") for text in wanted)
    here = _here(environment) if on_gpus else _Here((), known=True)
    if wanted == "auto":
        wanted = [f"cuda:{gpu.name}" for gpu in here.usable()] or ["cpu"] * _cpu_slots()
    if isinstance(wanted, str) or not wanted:
        raise ConfigError(file, "slots", f"{wanted!r} names no slots", f'write "auto", or a list of: {_HOW}')
    slots = [_parsed(text, f"slots[{i}]", here, file, cpu_memory_bytes) for i, text in enumerate(wanted)]
    _check_shares(slots, file)
    return tuple(_named(slots))


def pinned(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """The same, each of the CPU on cores of its own, where there are enough. For a daemon, which has the machine: two programs that do
    this would choose the same cores, unless they are started on different ones (taskset, CPUAffinity=)."""
    cores = list(machine.cores())
    if sum(slot.threads for slot in slots if slot.device == "cpu") > len(cores):
        return tuple(slots)
    return tuple(replace(slot, cores=tuple(cores.pop(0) for _ in range(slot.threads))) if slot.device == "cpu" else slot for slot in slots)


def _cpu_slots() -> int:
    return min(len(machine.cores()), max(1, machine.memory_bytes() // _LEAST_BYTES))


def _parsed(text: str, key: str, here: _Here, file: object, cpu_memory_bytes: int | None) -> Slot:
    """Its name is still what stands in the settings."""
    entry = _ENTRY.fullmatch(text)
    if entry is None:
        raise ConfigError(file, key, f"{text!r} is no slot", f"write {_HOW}")
    if entry["gpu"] is None:
        memory = cpu_memory_bytes or machine.memory_bytes()
        return Slot(name=text, device="cpu", visible="", threads=int(entry["threads"] or 1), memory_bytes=memory)
    gpu, shares = _chosen(entry["gpu"], key, here, file), int(entry["shares"] or 1)
    memory_bytes = None if gpu.memory_bytes is None else gpu.memory_bytes // shares
    return Slot(name=text, device="cuda", visible=gpu.name, memory_bytes=memory_bytes, share=1 / shares)


def _chosen(wanted: str, key: str, here: _Here, file: object) -> Gpu:
    """The GPU that an entry means: by its number among those here, or by (the beginning of) its UUID."""
    if not here.known:
        return Gpu(wanted)
    names = ", ".join(f'"cuda:{gpu.name}"' for gpu in here.usable()) or "none, so name slots of the CPU"
    if not wanted.isdecimal():
        found = [gpu for gpu in here.usable() if gpu.name.lower().startswith(wanted.lower())]
    elif int(wanted) < len(here.gpus):
        found = [here.gpus[int(wanted)]]
    else:
        found = []
    if len(found) != 1:
        raise ConfigError(file, key, f"'cuda:{wanted}' is {'no' if not found else 'not one'} GPU that may be used", f"there are: {names}")
    if found[0].instances:
        parts = ", ".join(f'"cuda:{part.name}"' for part in found[0].instances)
        raise ConfigError(file, key, f"'cuda:{wanted}' is split into MIG instances", f"name one of them: {parts}")
    return found[0]


def _check_shares(slots: Sequence[Slot], file: object) -> None:
    """A GPU is given away once, or in shares that come to no more than the whole."""
    given: dict[str, Fraction] = {}
    for i, slot in enumerate(slots):
        if slot.device == "cuda":
            given[slot.visible] = given.get(slot.visible, Fraction(0)) + Fraction(slot.share).limit_denominator(99)
            if given[slot.visible] > 1:
                so_far = [other.name for other in slots[: i + 1] if other.visible == slot.visible]
                hint = f"take one away, or give each a share: {', '.join([f'{_base(slot)}/{len(so_far)}'] * len(so_far))}"
                raise ConfigError(file, f"slots[{i}]", f"{', '.join(so_far)} are more than the whole GPU", hint)


def _base(slot: Slot) -> str:
    return slot.name if slot.share == 1 else slot.name.rpartition("/")[0]


def _named(slots: Sequence[Slot]) -> list[Slot]:
    """Each with a name of its own, which stays the same from one start to the next: its entry, numbered where it stands there twice."""
    times, seen = Counter(slot.name for slot in slots), Counter[str]()
    named = []
    for slot in slots:
        named.append(slot if times[slot.name] == 1 else replace(slot, name=f"{slot.name}#{seen[slot.name]}"))
        seen[slot.name] += 1
    return named


def _here(environment: Mapping[str, str]) -> _Here:
    found, visible = gpus.installed(), environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _Here(tuple(found), known=bool(found))
    words = takewhile(lambda word: word not in ("", "-1"), (word.strip() for word in visible.split(",")))
    chosen = (_visible(word, found) if found else Gpu(word) for word in words)
    return _Here(tuple(takewhile(lambda gpu: gpu is not None, chosen)), known=True)  # type: ignore[arg-type]  # as CUDA does: the rest is not seen


def _visible(word: str, installed: Sequence[Gpu]) -> Gpu | None:
    """The GPU or MIG instance that a word of CUDA_VISIBLE_DEVICES means."""
    if word.isdecimal():
        return installed[int(word)] if int(word) < len(installed) else None
    every = [gpu for whole in installed for gpu in (whole, *whole.instances)]
    return next((gpu for gpu in every if gpu.name.lower().startswith(word.lower())), None)
