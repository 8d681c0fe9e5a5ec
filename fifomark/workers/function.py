"""Running one function over many paths, on all slots; results come back in the order in which the paths went in."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

import msgspec

from fifomark.core.errors import FunctionFailed, UsageError
from fifomark.core.record import Record
from fifomark.workers.process import Worker
from fifomark.workers.slots import Slot

Function = Callable[[str], object]


class Call(Record):
    path: str


class Answer(Record):
    """`value` is the function's result as MessagePack, or `error` says what it raised."""

    value: bytes = b"\xc0"
    error: str | None = None


def check(function: Function) -> None:
    """UsageError where `function` cannot be found by a fresh process."""
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as e:
        raise UsageError(
            f"{function!r} cannot be found by a worker: define it at the top level of a module (no lambda, no closure): {e}"
        ) from e


def serve(function: Function, connection: Connection, slot: Slot) -> None:
    """A worker's side."""
    while True:
        call = msgspec.msgpack.decode(connection.recv_bytes(), type=Call)
        connection.send_bytes(msgspec.msgpack.encode(_answer(function, os.fsdecode(call.path.encode("latin-1")))))


def _answer(function: Function, path: str) -> Answer:
    try:
        value = function(path)
    except Exception as e:
        traceback.print_exc()
        return Answer(error=f"{getattr(function, '__name__', function)} raised {type(e).__name__}: {e}")
    try:
        return Answer(value=msgspec.msgpack.encode(value))
    except (TypeError, OverflowError, UnicodeEncodeError) as e:
        return Answer(
            error=f"its result cannot travel between processes ({e}): return numbers, strings, lists, dicts or msgspec/dataclass records"
        )


class Processing:
    """Workers for `slots`, each started when it is first needed."""

    def __init__(self, function: Function, slots: Sequence[Slot]) -> None:
        check(function)
        self._serve = functools.partial(serve, function)
        self._slots = list(slots)
        self._workers: dict[str, Worker] = {}

    def results(self, items: Iterable[tuple[int, str]]) -> Iterator[tuple[int, object | FunctionFailed]]:
        """(id, what the function gave for its path) in the order of `items`, which are taken only when a slot is free for them."""
        todo = iter(items)
        order: list[int] = []
        running: dict[str, tuple[int, str]] = {}
        done: dict[int, object | FunctionFailed] = {}
        more = True
        while more or running or done:
            while more and len(running) < len(self._slots):
                item = next(todo, None)
                more = item is not None
                if item is not None:
                    order.append(item[0])
                    name = self._start(item[1], running)
                    running[name] = item
            for name in self._ended(running):
                id, path = running.pop(name)
                done[id] = self._collect(name, path)
            while order and order[0] in done:
                id = order.pop(0)
                yield id, done.pop(id)

    def _start(self, path: str, busy: Iterable[str]) -> str:
        slot = next(slot for slot in self._slots if slot.name not in busy)
        # Latin-1: a path may hold any bytes, and msgpack's strings are UTF-8.
        call = msgspec.msgpack.encode(Call(path=os.fsencode(path).decode("latin-1")))
        worker = self._workers.get(slot.name)
        if worker is not None:
            try:
                worker.send(call)
            except OSError:  # it died after its last answer, of something that it had left running
                worker.kill()
                worker = None
        if worker is None:
            worker = self._workers[slot.name] = Worker(slot, self._serve)
            with contextlib.suppress(OSError):  # dead at birth: `_collect` sees its end
                worker.send(call)
        return slot.name

    def _ended(self, running: Iterable[str]) -> list[str]:
        by_waitable = {waitable: name for name in running for waitable in self._workers[name].waitables}
        ready = wait(list(by_waitable)) if by_waitable else []
        return list(dict.fromkeys(by_waitable[waitable] for waitable in ready))  # type: ignore[index]

    def _collect(self, name: str, path: str) -> object | FunctionFailed:
        message = self._workers[name].receive()
        if message is None:
            worker = self._workers.pop(name)
            worker.kill(patience=2.0)  # let it say how it ended
            return FunctionFailed(path, f"its worker was lost: {worker.how_it_ended()}")
        try:
            answer = msgspec.msgpack.decode(message, type=Answer)
            return FunctionFailed(path, answer.error) if answer.error is not None else msgspec.msgpack.decode(answer.value)
        except msgspec.DecodeError as e:
            return FunctionFailed(path, f"its worker said something unreadable: {e}")

    def close(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()
