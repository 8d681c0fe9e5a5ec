from __future__ import annotations

import os

import pytest

from fifomark.core.errors import ConfigError
from fifomark.workers.slots import find_slots


def test_auto_finds_the_gpus_that_the_operator_left_visible() -> None:
    slots = find_slots("auto", {"CUDA_VISIBLE_DEVICES": "0,GPU-abc"})
    assert [(slot.device, slot.visible) for slot in slots] == [("cuda", "0"), ("cuda", "GPU-abc")]


def test_auto_without_a_gpu_is_one_thread_for_each_core() -> None:
    slots = find_slots("auto", {"CUDA_VISIBLE_DEVICES": ""})
    assert len(slots) == len(os.sched_getaffinity(0))
    assert all((slot.device, slot.visible, slot.threads) == ("cpu", "", 1) for slot in slots)


def test_slots_can_be_named() -> None:
    slots = find_slots(["cuda:0", "cpu:2", "cuda:GPU-12ab", "cpu"])
    assert [(slot.visible, slot.threads) for slot in slots] == [("0", 1), ("", 2), ("GPU-12ab", 1), ("", 1)]
    assert len({slot.name for slot in slots}) == 4


def test_a_slot_that_is_none_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"slots\[1\].*'gpu0'"):
        find_slots(["cpu", "gpu0"])
