"""A spool's numbers in the text format of Prometheus, for the text-file collector of its node exporter (docs/service.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from fifomark.core.measured import Measured

_BUSY = ("busy", "starting")


class Sample(NamedTuple):
    """`suffix` is appended to the metric's name."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


class Metric(NamedTuple):
    name: str
    kind: Literal["gauge", "counter", "summary"]
    help: str
    samples: list[Sample]


def render(seen: Measured) -> str:
    """Every metric, each with the spool's path as a label: several spools of one machine are told apart."""
    return "".join(_text(metric, {"spool": seen.spool}) for metric in (*_daemon(seen), *_queue(seen), *_slots(seen), *_troubles(seen)))


def _gauge(name: str, help: str, value: float) -> Metric:
    return Metric(name, "gauge", help, [Sample(value)])


def _daemon(seen: Measured) -> Iterator[Metric]:
    yield _gauge("up", "Whether a daemon holds the spool.", seen.started_at is not None)
    yield _gauge("start_time_seconds", "When that daemon started, 0 where none runs.", seen.started_at or 0.0)
    yield Metric("build_info", "gauge", "The version of the daemon, or of who wrote this.", [Sample(1, {"version": seen.version})])


def _queue(seen: Measured) -> Iterator[Metric]:
    yield _gauge("queue_length", "Submissions that wait for a slot.", seen.waiting)
    yield _gauge("oldest_waiting_seconds", "Age of what has waited longest for a slot, 0 where nothing waits.", seen.oldest_seconds)
    states = [Sample(count, {"state": state}) for state, count in seen.states.items()]
    yield Metric("submissions", "gauge", "Submissions in each state.", states)
    stages: list[Sample] = []
    for stage in seen.stages:
        stages += [Sample(stage.seconds, {"state": stage.state}, "_sum"), Sample(stage.times, {"state": stage.state}, "_count")]
    yield Metric("state_seconds", "summary", "How long submissions stayed in a state; queued and sanitized are waiting.", stages)


def _slots(seen: Measured) -> Iterator[Metric]:
    busy = [Sample(seconds, {"slot": slot}) for slot, seconds in sorted(seen.busy_seconds.items())]
    yield Metric("slot_busy_seconds_total", "counter", "Time in which a slot was marking; its rate is the slot's busy share.", busy)
    now = [Sample(state in _BUSY, {"slot": slot}) for slot, state in seen.slots.items()]
    yield Metric("slot_busy", "gauge", "Whether a slot is marking.", now)
    fit = [Sample(state != "out of service", {"slot": slot}) for slot, state in seen.slots.items()]
    yield Metric("slot_in_service", "gauge", "0 for a slot that failed too often.", fit)


def _troubles(seen: Measured) -> Iterator[Metric]:
    yield _gauge("disk_free_bytes", "Free bytes on the spool's disk.", seen.disk_free_bytes)
    yield _gauge("disk_size_bytes", "Size of the spool's disk.", seen.disk_size_bytes)
    yield _gauge("short_of_space", "Whether too little is free to take anything new.", seen.short_of_space)
    yield _gauge("paused", "Whether the operator has paused the spool.", seen.paused)
    yield _gauge("broken_rubrics", "Rubrics that are wrong, and whose submissions wait.", seen.broken_rubrics)


def _text(metric: Metric, everywhere: Mapping[str, str]) -> str:
    name = f"fifomark_{metric.name}"
    lines = [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
    for value, labels, suffix in metric.samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in {**everywhere, **labels}.items())
        lines.append(f"{name}{suffix}{{{inner}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
