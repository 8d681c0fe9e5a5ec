"""The parser server: forks one child for each file, and the child describes it. Standard library only.

The server is a process of its own, started isolated from the folder it is started in; its children get one open descriptor to read
and a pipe to write to, and die by their resource limits or the server's clock.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any

from fifomark.torchfile.describe import describe
from fifomark.torchfile.source import ParseLimits

_PR_SET_PDEATHSIG = 1
GAVE_UP = 3  # exit code of a child whose parser raised: a bug of ours


def main(control_fd: int) -> None:
    """Serve requests on the socket `control_fd` until its other end is closed.

    A request is JSON with [the file's descriptor, the pipe to write to] beside it; the answer says how the child ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us; we end when they do
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    control = socket.socket(fileno=control_fd)
    gc.collect()
    gc.freeze()  # what is frozen is not touched, and so not copied, by the children's collector
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 2)
        if not message:
            return
        control.send(json.dumps(_serve(json.loads(message), *fds, control=control)).encode())


def _serve(request: dict[str, Any], file: int, pipe: int, control: socket.socket) -> dict[str, Any]:
    pid = os.fork()
    if pid == 0:
        _child(request, file, pipe, control)
    os.close(file)
    os.close(pipe)
    return _wait(pid, request["seconds"])


def _wait(pid: int, seconds: float) -> dict[str, Any]:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        in_time = bool(poll.poll(seconds * 1000))
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "overdue": not in_time}


def _child(request: dict[str, Any], file: int, pipe: int, control: socket.socket) -> None:
    try:
        control.close()
        _limit(request)
        body = memoryview(describe(file, ParseLimits(**request["limits"])))
        while body:
            body = body[os.write(pipe, body) :]
        os._exit(0)
    except BaseException as e:
        # Fail closed, and say what it was: a parser that raises is a bug of ours.
        print(f"fifomark parser: {type(e).__name__} at line {e.__traceback__ and _last_line(e)}", file=sys.stderr, flush=True)
    finally:
        os._exit(GAVE_UP)


def _last_line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"


def _limit(request: dict[str, Any]) -> None:
    seconds = int(request["seconds"]) + 1
    for what, value in (
        (resource.RLIMIT_AS, request["memory_bytes"]),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (value, value))
