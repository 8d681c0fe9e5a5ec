"""Slots of a GPU, as NVML would tell of it."""

from __future__ import annotations

import time

import pytest
from fake_nvml import GIB, FakeGpu, FakeNvml
from pool_bench import (
    CPU,
    GPU,
    obey,
    outcome,
    said,
    state_of,
)

from fifomark.core.outcome import Lost
from fifomark.workers.leaving import DRAIN_SECONDS
from fifomark.workers.local import LocalPool
from fifomark.workers.slots import Slot


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return FakeNvml([FakeGpu("GPU-1234", 10 * GIB)]).install(monkeypatch)


def test_a_gpu_takes_nothing_new_until_the_memory_of_its_killed_worker_is_free(pool: LocalPool, nvml: FakeNvml) -> None:
    gpu = nvml.gpus[0]
    gpu.used = 1 * GIB  # somebody's desktop
    said(pool, "pid", GPU)
    gpu.used = 6 * GIB
    outcome(pool, "hang", GPU, seconds=0.2)
    assert state_of(pool, GPU) == ("draining", "waits until its last worker has given back what it had")
    assert pool.free() == [CPU]
    gpu.used = 1 * GIB
    pool.collect(time.time())
    assert pool.free() == [CPU, GPU]


def test_a_share_of_a_gpu_waits_for_its_own_memory_only(nvml: FakeNvml) -> None:
    half = Slot(name="cuda:0/2", device="cuda", visible="GPU-1234", memory_bytes=5 * GIB, share=0.5)
    pool = LocalPool(obey, [half])
    said(pool, "pid", half)
    nvml.gpus[0].used = 8 * GIB  # its neighbour has come to 5 since
    outcome(pool, "die", half)
    assert state_of(pool, half)[0] == "draining"
    nvml.gpus[0].used = 5 * GIB
    pool.collect(time.time())
    assert state_of(pool, half)[0] == "free"
    pool.close()


def test_a_gpu_that_does_not_give_memory_back_is_out_of_service_until_it_does(pool: LocalPool, nvml: FakeNvml) -> None:
    said(pool, "pid", GPU)
    nvml.gpus[0].used = 6 * GIB
    outcome(pool, "die", GPU)
    pool.collect(time.time() + DRAIN_SECONDS + 1)
    assert state_of(pool, GPU) == ("out of service", "what its last worker had is not given back after 120 seconds")
    nvml.gpus[0].used = 0
    pool.collect(time.time())
    assert state_of(pool, GPU) == ("free", None)


def test_a_gpu_that_is_lost_is_out_of_service_at_once_and_the_other_slots_go_on(pool: LocalPool, nvml: FakeNvml) -> None:
    said(pool, "pid", GPU)
    nvml.gpus[0].lost = True
    assert outcome(pool, "device CUDA error: unspecified launch failure", GPU) == Lost(how="CUDA error: unspecified launch failure")
    assert state_of(pool, GPU) == ("out of service", "NVML says of its GPU: GPU is lost")
    assert said(pool, "pid", CPU)


def test_a_worker_whose_device_failed_is_replaced_and_what_it_had_is_lost_and_not_failed(pool: LocalPool) -> None:
    before = said(pool, "pid", GPU)
    assert outcome(pool, "device CUDA error: an illegal memory access", GPU) == Lost(how="CUDA error: an illegal memory access")
    assert said(pool, "pid", GPU) != before


def test_a_worker_that_is_spent_gives_its_outcome_and_is_replaced(pool: LocalPool) -> None:
    before = said(pool, "pid", GPU)
    assert said(pool, "spent it asked for what is not there", GPU) == "it asked for what is not there"
    assert said(pool, "pid", GPU) != before
