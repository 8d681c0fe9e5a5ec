from __future__ import annotations

import pytest
from fake_nvml import GIB, FakeGpu, FakeNvml

from fifomark.workers import gpus


def test_the_simulation_is_of_what_pynvml_really_has() -> None:
    import fake_nvml
    import pynvml

    names = [name for name in (*dir(FakeNvml), *dir(fake_nvml)) if name.startswith(("nvml", "NVMLError"))]
    assert len(names) > 10
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert [name for name in gpus._GONE if not hasattr(pynvml, f"NVMLError_{name}")] == []


def test_without_a_driver_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml([FakeGpu("GPU-1")], driver=False).install(monkeypatch)
    assert (gpus.installed(), gpus.free_bytes("GPU-1"), gpus.trouble("GPU-1")) == ([], None, None)


def test_a_gpu_is_asked_by_its_uuid_or_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml([FakeGpu("GPU-1"), FakeGpu("GPU-2", used=20 * GIB)]).install(monkeypatch)
    assert gpus.free_bytes("GPU-2") == gpus.free_bytes("1") == 4 * GIB
    assert nvml.open == 0


def test_a_gpu_without_memory_of_its_own_is_one_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml([FakeGpu("GPU-1", memory=None)]).install(monkeypatch)
    assert gpus.installed() == [gpus.Gpu("GPU-1", None)]
    assert (gpus.free_bytes("GPU-1"), gpus.trouble("GPU-1")) == (None, None)


def test_what_is_lost_or_not_there_any_more_is_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml([FakeGpu("GPU-1", lost=True), FakeGpu("GPU-2")]).install(monkeypatch)
    assert gpus.trouble("GPU-1") == "GPU is lost"
    assert gpus.trouble("GPU-9") == "Not Found"
    assert gpus.trouble("GPU-2") is None
    assert gpus.free_bytes("GPU-1") is None
