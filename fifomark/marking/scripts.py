"""TorchScript run where it can do no harm: the archive as it was submitted, in a process of its own that is locked down before it reads it
and thrown away after it. What comes out of there are numbers, checked for what they claim to be."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from threading import Timer
from typing import BinaryIO

import msgspec
import torch
from torch import Tensor, nn

from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.outcome import Original
from fifomark.marking.running import Misbehaved, TookTooLong
from fifomark.marking.schema import Rubric
from fifomark.marking.script_template import Template, template
from fifomark.marking.script_words import (
    Answer,
    Ask,
    Counted,
    Gave,
    Head,
    Loaded,
    NoTensor,
    Raised,
    Ready,
    Setup,
    head_of,
    receive,
    receive_tensor,
    send,
)
from fifomark.sandbox.enter import InForce

_CPU_GRACE = 5  # seconds
_PIECE = 1 << 20
_COUNTED = ("macs", "peak_memory_mib")
_NOT_PERMITTED = ("Operation not permitted", "Permission denied")
_SHARE_OF_TIME = 0.95  # the worker that waits need not be killed as well


class NoSandbox(Exception):
    """Why TorchScript cannot be run here."""


class Script(nn.Module):
    """A TorchScript model that runs elsewhere. To be closed.

    Its buffers are the weights that were found in the archive: by them it is known what it weighs; it is run by its own.
    """

    def __init__(self, process: _Process, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self._process = process
        self.sandbox = process.in_force
        self.constants = process.constants
        for number, tensor in enumerate(weights):
            self.register_buffer(str(number), tensor)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Misbehaved where the archive is at fault; RuntimeError for what its code raised."""
        match self._process.ask("run", inputs):
            case Gave(head=head):
                return self._process.outputs(head)
            case NoTensor(kind=kind):
                raise Misbehaved(find("FM604", "outputs", f"the model returned {kind}, expected a tensor"))
            case answer:
                raise _unexpected(answer)

    def macs(self, inputs: Sequence[Tensor]) -> int:
        """As fifomark.marking.cost has it; Misbehaved as of `forward`."""
        return self._counted("macs", inputs)

    def peak_bytes(self, inputs: Sequence[Tensor]) -> int:
        return self._counted("peak_bytes", inputs)

    def _counted(self, what: str, inputs: Sequence[Tensor]) -> int:
        answer = self._process.ask(what, inputs)
        if isinstance(answer, Counted):
            return answer.number
        raise _unexpected(answer)

    def close(self) -> None:
        """End its process."""
        self._process.close()


def run_script(original: Original, weights: Iterable[Tensor], rubric: Rubric) -> Script:
    """The model of the archive at `original.path`, which must have the hash of what was inspected.

    NoSandbox where the process cannot be locked down, Misbehaved where the archive cannot be loaded in there, InternalError where the file
    is another one or our side fails.
    """
    counts = rubric.model.max_macs is not None or any(metric.kind in _COUNTED for metric in rubric.metrics)
    with _copied(original) as archive:
        process = _Process(template(counts), archive.fileno(), original, _setup(original, rubric))
    try:
        process.load()
        return Script(process, weights)
    except BaseException:
        process.close()
        raise


def _copied(original: Original) -> BinaryIO:
    """A copy of the file in memory: what was hashed is what is run, whoever writes to the file."""
    copy = open(os.memfd_create("torchscript", os.MFD_CLOEXEC), "w+b")  # noqa: SIM115 (given to the caller)
    hashed = hashlib.sha256()
    try:
        with open(os.open(original.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            while piece := file.read(_PIECE):
                hashed.update(piece)
                copy.write(piece)
        if hashed.hexdigest() != original.sha256:
            raise InternalError(f"{original.path}: is not the file any more that was inspected")
        copy.flush()
        copy.seek(0)
    except OSError as e:
        copy.close()
        raise InternalError(f"{original.path}: what was submitted cannot be read any more: {e.strerror}") from e
    except BaseException:
        copy.close()
        raise
    return copy


class _Process:
    """The process, and the line to it."""

    def __init__(self, template: Template, archive_fd: int, original: Original, setup: Setup) -> None:
        self.in_force, self.constants = InForce(0, False), 0
        self._overdue = False
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = template.fork(theirs.fileno(), archive_fd)
            except InternalError:
                ours.close()
                raise
        self._line = Connection(ours.detach())
        self._clock = Timer(original.seconds * _SHARE_OF_TIME, self._stop)
        self._clock.daemon = True
        self._clock.start()
        try:
            send(self._line, setup)
            self._greeted()
        except BaseException:
            self.close()
            raise

    def _stop(self) -> None:
        """Its time is up: whatever we do with it, sending or waiting, ends now."""
        self._overdue = True
        self._process.kill()

    def _greeted(self) -> None:
        """NoSandbox where it cannot lock itself down; InternalError where it cannot even say so."""
        try:
            ready = receive(self._line, Ready)
        except (EOFError, OSError, msgspec.DecodeError):
            if self._overdue:
                raise TookTooLong from None
            raise InternalError(f"the process for TorchScript ended before it could begin (exit code {self._process.ended(1.0)})") from None
        if ready.trouble is not None:
            raise NoSandbox(ready.trouble)
        self.in_force = InForce(ready.landlock, ready.seccomp)

    def load(self) -> None:
        """Wait until the archive is loaded; Misbehaved where it is not."""
        match self._answer():
            case Loaded(constants=constants):
                self.constants = constants
            case Raised(words=words, memory=memory):
                _check_permitted(words)
                code = "FM602" if memory else "FM603"
                raise Misbehaved(find(code, "the archive", f"torch cannot load this TorchScript: {words}"))
            case answer:
                raise _unexpected(answer)

    def ask(self, what: str, inputs: Sequence[Tensor]) -> Answer:
        heads = [head_of(tensor) for tensor in inputs]
        if None in heads:
            raise torch.OutOfMemoryError("the inputs are too many to be sent at once")  # fewer may do
        try:
            send(self._line, msgspec.convert({"what": what, "inputs": heads}, Ask, from_attributes=True), tuple(inputs))
        except OSError:
            raise self._ended() from None
        return self._answer()

    def outputs(self, head: Head) -> Tensor:
        """The tensor that follows. Misbehaved as of `_answer`."""
        try:
            return receive_tensor(self._line, head)
        except (EOFError, OSError, ValueError):
            raise self._ended() from None

    def _answer(self) -> Answer:
        """What it says next. TookTooLong where its time is up; Misbehaved where it is gone, or says what it could not."""
        try:
            return receive(self._line, Answer)  # type: ignore[arg-type]
        except (EOFError, OSError, msgspec.DecodeError):
            raise self._ended() from None

    def _ended(self) -> Misbehaved | TookTooLong:
        """Why there is nothing to hear any more."""
        code = self._process.ended(1.0)
        if self._overdue or code == -signal.SIGXCPU:
            return TookTooLong()
        if code == -signal.SIGKILL:
            return Misbehaved(
                find("FM602", "forward", "the process that ran this TorchScript was killed, as the system does where memory ends")
            )
        if code == -signal.SIGSYS:
            message = "it was stopped when it tried to write to a file, to connect to somebody, or to start a program"
            return Misbehaved(find("FM610", "the archive", message))
        how = "said nonsense" if code is None else f"died of {_signal(-code)}" if code < 0 else f"ended (exit code {code})"
        return Misbehaved(find("FM603", "forward", f"the process that ran this TorchScript {how}"))

    def close(self) -> None:
        """Kill it, whatever it does: nothing of it is used again."""
        self._clock.cancel()
        self._line.close()
        self._process.close()


def _setup(original: Original, rubric: Rubric) -> Setup:
    threads, run = torch.get_num_threads(), rubric.run
    return Setup(
        threads=threads,
        seed=run.seed,
        precision=run.precision,
        sandbox=original.sandbox,
        memory_bytes=original.memory_bytes,
        cpu_seconds=int(original.seconds) * threads + _CPU_GRACE,
    )


def _unexpected(answer: Answer) -> Exception:
    """What to raise for an answer that is not the one that was asked for."""
    if not isinstance(answer, Raised):
        return Misbehaved(find("FM603", "forward", f"the process that ran this TorchScript said {type(answer).__name__}"))
    _check_permitted(answer.words)
    return torch.OutOfMemoryError(answer.words) if answer.memory else RuntimeError(answer.words)


def _check_permitted(words: str) -> None:
    """Misbehaved where the system refused what a script tried."""
    if any(refusal in words for refusal in _NOT_PERMITTED):
        raise Misbehaved(find("FM610", "the archive", f"running this TorchScript was stopped: {words}"))


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
