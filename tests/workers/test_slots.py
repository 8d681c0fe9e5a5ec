from __future__ import annotations

import os

import pytest
from fake_nvml import GIB, FakeGpu, FakeNvml

from fifomark.core.errors import ConfigError
from fifomark.workers import machine
from fifomark.workers.slots import Slot, find_slots, pinned

SMALL, LARGE = "GPU-0a000000-1111", "GPU-0b000000-2222"
PART, OTHER_PART = "MIG-c1000000-3333", "MIG-c2000000-4444"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return FakeNvml([FakeGpu(SMALL, 8 * GIB), FakeGpu(LARGE, 24 * GIB)]).install(monkeypatch)


@pytest.fixture
def split_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    parts = [FakeGpu(PART, 5 * GIB), None, FakeGpu(OTHER_PART, 10 * GIB)]
    return FakeNvml([FakeGpu(LARGE, 40 * GIB, instances=parts), FakeGpu(SMALL, 8 * GIB, instances=[])]).install(monkeypatch)


def seen(slots: tuple[Slot, ...]) -> list[tuple[str, str, int]]:
    return [(slot.name, slot.visible, (slot.memory_bytes or 0) // GIB) for slot in slots]


def wrong(wanted: str | list[str], environment: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        find_slots(wanted, environment, file="/s/fifomark.toml")
    return str(caught.value)


# auto


def test_auto_finds_every_gpu_by_its_uuid_with_its_memory(two_gpus: FakeNvml) -> None:
    slots = find_slots("auto", {})
    assert seen(slots) == [(f"cuda:{SMALL}", SMALL, 8), (f"cuda:{LARGE}", LARGE, 24)]
    assert {slot.device for slot in slots} == {"cuda"}
    assert two_gpus.open == 0


def test_auto_finds_the_instances_of_a_gpu_that_is_split_in_place_of_it(split_gpu: FakeNvml) -> None:
    assert seen(find_slots("auto", {})) == [
        (f"cuda:{PART}", PART, 5),
        (f"cuda:{OTHER_PART}", OTHER_PART, 10),
        (f"cuda:{SMALL}", SMALL, 8),
    ]


def test_auto_goes_on_without_a_gpu_that_is_lost(two_gpus: FakeNvml) -> None:
    two_gpus.gpus[0].lost = True
    assert seen(find_slots("auto", {})) == [(f"cuda:{LARGE}", LARGE, 24)]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("1,0", [LARGE, SMALL]),
        ("GPU-0b", [LARGE]),
        (f"{LARGE}, 0", [LARGE, SMALL]),
        ("0,-1,1", [SMALL]),  # as CUDA does: what comes after something unknown is not seen
        ("1,7,0", [LARGE]),
    ],
)
def test_auto_finds_only_the_gpus_that_the_operator_left_visible(two_gpus: FakeNvml, visible: str, found: list[str]) -> None:
    assert [slot.visible for slot in find_slots("auto", {"CUDA_VISIBLE_DEVICES": visible})] == found


def test_without_a_driver_the_operators_list_of_gpus_is_believed() -> None:
    slots = find_slots("auto", {"CUDA_VISIBLE_DEVICES": "0,GPU-abc"})
    assert [(slot.device, slot.visible, slot.memory_bytes) for slot in slots] == [("cuda", "0", None), ("cuda", "GPU-abc", None)]


def test_auto_without_a_gpu_is_one_thread_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(driver=False).install(monkeypatch)
    slots = find_slots("auto", {})
    assert len(slots) == len(os.sched_getaffinity(0))
    assert all((slot.device, slot.visible, slot.threads) == ("cpu", "", 1) for slot in slots)
    assert len({slot.name for slot in slots}) == len(slots)


def test_auto_puts_no_more_cores_to_work_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: tuple(range(64)))
    monkeypatch.setattr(machine, "memory_bytes", lambda: 3 * GIB)
    assert [slot.name for slot in find_slots("auto", {"CUDA_VISIBLE_DEVICES": ""})] == ["cpu#0", "cpu#1", "cpu#2"]
    monkeypatch.setattr(machine, "memory_bytes", lambda: GIB // 2)
    assert [slot.name for slot in find_slots("auto", {"CUDA_VISIBLE_DEVICES": ""})] == ["cpu"]


# Lists


def test_slots_can_be_named() -> None:
    slots = find_slots(["cuda:0", "cpu:2", "cuda:GPU-12ab", "cpu"], {})
    assert [(slot.visible, slot.threads) for slot in slots] == [("0", 1), ("", 2), ("GPU-12ab", 1), ("", 1)]
    assert [slot.name for slot in slots] == ["cuda:0", "cpu:2", "cuda:GPU-12ab", "cpu"]


def test_a_gpu_that_is_named_by_its_number_or_half_its_uuid_is_bound_by_the_whole_uuid(two_gpus: FakeNvml) -> None:
    assert seen(find_slots(["cuda:1", "cuda:GPU-0A"], {})) == [("cuda:1", LARGE, 24), ("cuda:GPU-0A", SMALL, 8)]
    assert seen(find_slots(["cuda:0"], {"CUDA_VISIBLE_DEVICES": "1"})) == [("cuda:0", LARGE, 24)]


def test_two_slots_share_a_gpu_and_each_has_half_its_memory(two_gpus: FakeNvml) -> None:
    slots = find_slots(["cuda:1/2", "cuda:1/2", "cuda:0"], {})
    assert seen(slots) == [("cuda:1/2#0", LARGE, 12), ("cuda:1/2#1", LARGE, 12), ("cuda:0", SMALL, 8)]
    assert [slot.share for slot in slots] == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("entries", [["cuda:1/2", "cuda:1/4", "cuda:1/4"], ["cuda:1/3"] * 3, ["cuda:1/7"] * 7])
def test_shares_may_come_to_the_whole(two_gpus: FakeNvml, entries: list[str]) -> None:
    assert len(find_slots(entries, {})) == len(entries)


def test_an_instance_can_be_shared_too(split_gpu: FakeNvml) -> None:
    assert seen(find_slots([f"cuda:{OTHER_PART}/2"] * 2, {}))[0] == (f"cuda:{OTHER_PART}/2#0", OTHER_PART, 5)


def test_instances_can_be_named_in_the_old_way() -> None:
    (slot,) = find_slots(["cuda:MIG-GPU-12ab/1/0/2"], {})
    assert (slot.visible, slot.share) == ("MIG-GPU-12ab/1/0", 0.5)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["cuda:0", "cuda:0"], r"slots\[1\]: cuda:0, cuda:0 are more than the whole GPU \(.*cuda:0/2, cuda:0/2"),
        (["cuda:0", f"cuda:{SMALL}"], r"slots\[1\]: cuda:0, cuda:GPU-0a000000-1111 are more than the whole"),
        (["cuda:0/2", "cpu", "cuda:0/2", "cuda:0/2"], r"slots\[3\]: .*cuda:0/3, cuda:0/3, cuda:0/3"),
        (["cuda:0", "cuda:0/2"], r"slots\[1\]: .* are more than"),
        (["cuda:7"], r"slots\[0\]: 'cuda:7' is no GPU that may be used \(there are: \"cuda:GPU-0a000000-1111\", \"cuda:GPU-0b"),
        (["cuda:GPU-ffff"], r"slots\[0\]: 'cuda:GPU-ffff' is no GPU that may be used"),
        (["cuda:GPU-0"], r"slots\[0\]: 'cuda:GPU-0' is not one GPU"),
        (["cpu", "gpu0"], r"slots\[1\]: 'gpu0' is no slot \(write \"cpu\", \"cpu:2\""),
        (["cuda:0/0"], r"'cuda:0/0' is no slot"),
        (["cpu:0"], r"'cpu:0' is no slot"),
        (["cuda:0 "], r"'cuda:0 ' is no slot"),
        ([], r"slots: \[\] names no slots"),
        ("cuda:0", r"slots: 'cuda:0' names no slots \(write \"auto\", or a list"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_what_to_write(two_gpus: FakeNvml, entries: list[str] | str, said: str) -> None:
    message = wrong(entries, {})
    assert message.startswith("/s/fifomark.toml: ")
    with pytest.raises(ConfigError, match=said):
        find_slots(entries, {})


def test_a_gpu_that_the_operator_hid_cannot_be_named(two_gpus: FakeNvml) -> None:
    assert "'cuda:GPU-0a' is no GPU that may be used" in wrong(["cuda:GPU-0a"], {"CUDA_VISIBLE_DEVICES": "1"})
    assert "there are: none" in wrong(["cuda:0"], {"CUDA_VISIBLE_DEVICES": ""})


def test_a_gpu_that_is_split_cannot_be_had_whole(split_gpu: FakeNvml) -> None:
    assert f'is split into MIG instances (name one of them: "cuda:{PART}", "cuda:{OTHER_PART}")' in wrong(["cuda:0"], {})


# Cores and memory of the CPU


def test_slots_of_the_cpu_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: (0, 1, 4, 5))
    assert [slot.cores for slot in pinned(find_slots(["cpu:2", "cpu", "cpu"], {}))] == [(0, 1), (4,), (5,)]
    assert [slot.cores for slot in pinned(find_slots(["cuda:0", "cpu:3"], {}))] == [(), (0, 1, 4)]


def test_where_there_are_not_enough_cores_none_is_anyones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: (0, 1))
    assert [slot.cores for slot in pinned(find_slots(["cpu:2", "cpu"], {}))] == [(), ()]


def test_a_slot_of_the_cpu_has_the_machines_memory_or_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 7 * GIB)
    assert [slot.memory_bytes for slot in find_slots(["cpu", "cuda:0"], {})] == [7 * GIB, None]
    assert [slot.memory_bytes for slot in find_slots(["cpu"], {}, cpu_memory_bytes=GIB)] == [GIB]
