"""What a worker keeps from one mark to the next: its device, and rubrics with their data. Nothing of a submission."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fifomark.core.errors import ConfigError, InternalError
from fifomark.core.outcome import MarkTicket
from fifomark.families import registry
from fifomark.marking.data import load_data
from fifomark.marking.factories import Factory
from fifomark.marking.metrics import Meter, try_metrics
from fifomark.marking.model_rules import check_facts
from fifomark.marking.own_metrics import own_metrics
from fifomark.marking.rubric import FILE_NAME, load_rubric, rubric_sha256
from fifomark.marking.running import Examples
from fifomark.marking.schema import Rubric

_SHARE = 0.1  # of a GPU's memory for the data of all its rubrics; the rest is the models'
_log = logging.getLogger(__name__)


class RubricChanged(Exception):
    """The rubric on disk is no longer the one that the ticket names: the daemon reads it again, and asks again."""


@dataclass(frozen=True)
class LoadedRubric:
    """A rubric as it had the hash `sha256`, its data, and a meter for each split (making one anew takes longer than a small model)."""

    folder: str
    sha256: str
    rubric: Rubric
    splits: tuple[Examples, ...]
    data_sha256: str
    factory: Factory | None
    meters: tuple[Meter, ...]


class Bench:
    def __init__(
        self, device: str = "cpu", threads: int = 1, share: float = 1.0, on_loading: Callable[[bool], None] = lambda under_way: None
    ) -> None:
        """`device` is "cpu" or "cuda", the one GPU that the process sees, of whose memory it takes no more than `share`. `on_loading` is
        called before a rubric and its data are read (True) and after (False).

        InternalError where it sees none, or several, or one that cannot add.
        """
        self.device, self.threads, self._share = torch.device("cpu"), threads, share
        if device == "cuda":
            self.device = _gpu(share)
        self._on_loading = on_loading
        self._loaded: dict[str, LoadedRubric] = {}

    def load(self, ticket: MarkTicket) -> LoadedRubric:
        """The ticket's rubric and data, read once and again when the ticket names another hash; ConfigError where they are wrong.

        RubricChanged where what is on disk has yet another one.
        """
        known = self._loaded.get(ticket.rubric)
        if known is None or known.sha256 != ticket.rubric_sha256:
            self._loaded.pop(ticket.rubric, None)  # first: two versions of large data need not fit together
            del known
            self._on_loading(True)
            try:
                self._loaded[ticket.rubric] = known = self._placed(_read(ticket))
            finally:
                self._on_loading(False)
        return known

    def _placed(self, read: LoadedRubric) -> LoadedRubric:
        """With its data where there is room for it."""
        device = torch.device("cpu") if read.rubric.run.device == "cpu" else self.device
        room = int(_room(device) * self._share) - sum(bytes_on(device, other.splits) for other in self._loaded.values())
        return replace(read, splits=kept(read.splits, device, room))

    def is_fit(self) -> bool:
        """Whether the device still works for this process: CUDA's errors stay with a process until its end."""
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError:
                return False
        return True

    def prepare(self, loaded: LoadedRubric) -> torch.device:
        """The state of torch that a mark starts from, whatever ran before it; returns the device that the rubric wants it on."""
        run = loaded.rubric.run
        if run.device == "cuda" and self.device.type != "cuda":
            raise ConfigError(os.path.join(loaded.folder, FILE_NAME), "run.device", "is cuda, but this slot has no GPU")
        torch.default_generator.manual_seed(run.seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(run.seed)
        random.seed(run.seed)  # a factory may draw from any of them
        np.random.seed(run.seed % (1 << 32))
        torch.set_num_threads(run.threads or self.threads)
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports inductor, which takes a second
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        return torch.device("cpu") if run.device == "cpu" else self.device


def _gpu(share: float) -> torch.device:
    """Tried before the first model comes to it: what fails here is the slot's fault, and nobody else's."""
    if not torch.cuda.is_available():
        raise InternalError("this slot is a GPU, but torch sees none")
    if (seen := torch.cuda.device_count()) != 1:
        raise InternalError(f"this slot is one GPU, but torch sees {seen}: something has changed CUDA_VISIBLE_DEVICES")
    device = torch.device("cuda", 0)
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)
    if float(torch.ones(8, device=device).sum()) != 8:
        raise InternalError("this slot is a GPU that cannot add")
    return device


def _read(ticket: MarkTicket) -> LoadedRubric:
    place = os.path.join(ticket.rubric, FILE_NAME)
    rubric = load_rubric(ticket.rubric)
    sha256 = rubric_sha256(ticket.rubric)
    if sha256 != ticket.rubric_sha256:
        raise RubricChanged(f"{place}: changed after the ticket was written")
    _check_plugged(rubric, place)
    own = own_metrics(ticket.rubric, rubric, place)
    try_metrics(rubric, place, own)
    torch.manual_seed(rubric.data.seed)  # the rubric's own Python may draw the data by it
    data = load_data(ticket.rubric, rubric)
    splits = tuple(
        Examples(split.name, tuple(map(torch.from_numpy, split.inputs)), torch.from_numpy(split.labels)) for split in data.splits
    )
    meters = tuple(Meter(rubric, split.name, own) for split in splits)
    return LoadedRubric(ticket.rubric, sha256, rubric, splits, data.sha256, _factory(ticket.rubric, rubric, place, splits[0]), meters)


def _factory(folder: str, rubric: Rubric, place: str, examples: Examples) -> Factory | None:
    """The rubric's own class, tried where models will run."""
    if rubric.model.factory is None:
        return None
    factory = Factory(folder, rubric, place)
    on_gpu = rubric.run.device != "cpu" and torch.cuda.is_available()  # a worker on a slot of the CPU sees none
    factory.try_on(rubric, examples, torch.device("cuda", 0) if on_gpu else torch.device("cpu"))
    return factory


def kept(splits: tuple[Examples, ...], device: torch.device, room: int) -> tuple[Examples, ...]:
    """The splits where batches of them come to `device` soonest: on it, if all inputs fit into `room` bytes of it; else in pinned memory.

    Labels stay on the CPU, where the metrics are. The numbers are the same wherever they lie.
    """
    if device.type == "cpu":
        return splits
    if sum(tensor.nbytes for split in splits for tensor in split.inputs) <= room:
        return tuple(replace(split, inputs=tuple(tensor.to(device) for tensor in split.inputs)) for split in splits)
    return tuple(replace(split, inputs=tuple(_pinned(tensor) for tensor in split.inputs)) for split in splits)


def bytes_on(device: torch.device, splits: tuple[Examples, ...]) -> int:
    """How much of the `device` inputs take."""
    return sum(tensor.nbytes for split in splits for tensor in split.inputs if tensor.device == device)


def _room(device: torch.device) -> int:
    """A share of the whole device, not of what is free now: a batch that fits today fits tomorrow, and a mark repeats."""
    return int(torch.cuda.get_device_properties(device).total_memory * _SHARE) if device.type == "cuda" else 0


def _pinned(tensor: Tensor) -> Tensor:
    """As it is, where the system gives no more memory that stays in its place: slower, and no reason not to mark."""
    try:
        return tensor.pin_memory()
    except RuntimeError:
        _log.warning("%d bytes of data could not be pinned", tensor.nbytes)
        return tensor


def _check_plugged(rubric: Rubric, place: str) -> None:
    """What is declared of families that are plugins: only here, where they are imported."""
    if rubric.model.factory is None:
        families = registry.with_plugins(rubric.model.families)
        for name in rubric.model.families:
            for key, problem, hint in check_facts(rubric.model, families[name], place):
                raise ConfigError(place, key, problem, hint)
