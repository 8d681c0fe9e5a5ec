"""The processes that run TorchScript archives, one each, thrown away after it; and the template that they are forked from.

A process is forked once torch is imported; then it locks itself down, for good: no path can be opened, no socket, no program and no
process, nobody signalled or traced. Only then is the archive read, from a descriptor. Inputs come over the line, and outputs go back over
it as bytes: labels, the rubric and other people's work are nowhere in this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import resource
import signal
import socket
import warnings
from multiprocessing.connection import Connection
from typing import NoReturn

import torch
from torch import Tensor, nn

from fifomark.core.text import shown
from fifomark.marking.cost import macs_of, peak_bytes_of
from fifomark.marking.filling import cast
from fifomark.marking.script_words import (
    MAX_WORDS,
    Answer,
    Ask,
    Counted,
    Gave,
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
from fifomark.sandbox.enter import RUNNING, InForce, enter

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 64


def serve(control_fd: int, counts: bool) -> None:
    """The template: for each message on the socket `control_fd`, with the descriptors of a line and of an archive, fork a process that runs
    it; hand back a descriptor of that, and say its exit code when it has ended. Until the other end is closed."""
    _die_with_parent()
    torch.set_num_threads(1)  # the sandbox binds the thread that enters it, and those that it starts
    half = torch.zeros(2, 2, dtype=torch.float16)
    half @ half  # torch asks what this processor is, in files of the system, when it first multiplies such numbers
    if counts:  # torch imports what it counts with when it first counts; behind the sandbox it could not
        model, inputs = nn.Linear(2, 2), [torch.zeros(1, 2)]
        macs_of(model, inputs)
        peak_bytes_of(model, inputs)
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=control_fd)
    control.send(b"ready")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)  # what a script prints nobody reads
    os.close(null)
    while True:
        message, fds, _, _ = socket.recv_fds(control, 16, 2)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            main(*fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(control, [b"forked"], [pidfd])
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        control.send(str(os.waitstatus_to_exitcode(status)).encode())


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(line_fd: int, archive_fd: int) -> NoReturn:
    """Run the archive that is open at `archive_fd`, as it is asked to on the socket `line_fd`, until its other end is closed."""
    try:
        _die_with_parent()
        warnings.simplefilter("ignore")
        _run_archive(Connection(line_fd), archive_fd)
    finally:
        os._exit(0)  # no code of theirs runs when things are tidied up


def _run_archive(line: Connection, archive_fd: int) -> None:
    with contextlib.suppress(EOFError, OSError):
        setup = receive(line, Setup)
        try:
            torch.default_generator.manual_seed(setup.seed)
            torch.set_deterministic_debug_mode("error")
            entered = _locked_down(setup)
        except Exception as e:
            send(line, Ready(trouble=_words(e)))
            return
        send(line, Ready(landlock=entered.landlock, seccomp=entered.seccomp))
        _serve(line, archive_fd, setup)


def _locked_down(setup: Setup) -> InForce:
    """OSError where this machine cannot bind the process. seccomp must; without it no stranger's code is ever run."""
    for what, value in (
        (resource.RLIMIT_DATA, setup.memory_bytes),
        (resource.RLIMIT_CPU, setup.cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        if value is None:
            continue
        hard = resource.getrlimit(what)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (least, least))
    if setup.sandbox == "off":
        raise OSError('sandbox = "off", and TorchScript is run in a sandbox only')
    entered = enter(RUNNING, "auto" if setup.sandbox == "best-effort" else setup.sandbox)
    if not entered.seccomp:
        raise OSError("this machine has no seccomp (it is known here on Linux, x86-64 and arm64)")
    return entered


def _serve(line: Connection, archive_fd: int, setup: Setup) -> None:
    torch.set_num_threads(setup.threads)
    try:
        model, loaded = _loaded(archive_fd, getattr(torch, setup.precision))
    except Exception as e:
        send(line, _raised(e))
        return
    send(line, loaded)
    while True:
        ask = receive(line, Ask)
        inputs = [receive_tensor(line, head) for head in ask.inputs]
        answer, outputs = _answered(model, ask, inputs)
        send(line, answer, outputs)


def _loaded(archive_fd: int, dtype: torch.dtype) -> tuple[nn.Module, Loaded]:
    """The model in eval mode, its real numbers in `dtype`: but for one that mixes types, and so turns one into another by itself."""
    with open(archive_fd, "rb") as file:
        body = file.read()
    reader = torch._C.PyTorchFileReader(io.BytesIO(body))
    constants = sum(len(reader.get_record(name)) for name in reader.get_all_records() if name.startswith("constants/"))
    model: nn.Module = torch.jit.load(io.BytesIO(body), map_location="cpu")  # type: ignore[no-untyped-call]
    kinds = {tensor.dtype for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()}
    mixed = len(kinds) > 1 and dtype in kinds
    return model.eval() if mixed else cast(model.eval(), dtype), Loaded(constants=constants)


def _answered(model: nn.Module, ask: Ask, inputs: list[Tensor]) -> tuple[Answer, tuple[Tensor, ...]]:
    try:
        if ask.what == "macs":
            return Counted(number=macs_of(model, inputs)), ()
        if ask.what == "peak_bytes":
            return Counted(number=peak_bytes_of(model, inputs)), ()
        outputs = _run(model, inputs)
        if not isinstance(outputs, Tensor) or (head := head_of(outputs)) is None:
            return NoTensor(kind=shown(_kind(outputs), MAX_WORDS)), ()
        return Gave(head=head), (outputs,)
    except Exception as e:
        return _raised(e), ()


def _run(model: nn.Module, inputs: list[Tensor]) -> object:
    with torch.inference_mode():
        return model(*inputs)


def _kind(outputs: object) -> str:
    if isinstance(outputs, Tensor):
        return f"tensor of {str(outputs.dtype).removeprefix('torch.')} and shape {tuple(outputs.shape)}"
    return type(outputs).__name__


def _raised(error: Exception) -> Raised:
    memory = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
    return Raised(kind=shown(type(error).__name__, 200), words=_words(error), memory=memory)


def _words(error: Exception) -> str:
    """The last line, without the name of the error: torch puts the place in the script before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1].removeprefix("RuntimeError: ").removeprefix("torch.jit.Error: ") if lines else type(error).__name__
    return shown(said, MAX_WORDS)
