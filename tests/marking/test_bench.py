from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fifomark.core.outcome import MarkTicket
from fifomark.marking import bench as bench_module
from fifomark.marking.bench import Bench, bytes_on, kept
from fifomark.marking.rubric import rubric_sha256
from fifomark.marking.running import Examples

META = torch.device("meta")  # stands in for a GPU: another device, which holds no numbers
SPLITS = tuple(Examples(name, (torch.ones(8, 4), torch.ones(8, 2)), torch.zeros(8)) for name in ("public", "private"))
BYTES = 2 * 8 * (4 + 2) * 4


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What was asked to be pinned, which takes a GPU."""
    asked: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: asked.append(tensor) or tensor)
    return asked


def test_on_the_cpu_data_stays_as_it_is() -> None:
    assert kept(SPLITS, torch.device("cpu"), 0) is SPLITS


def test_inputs_that_fit_are_kept_on_the_device_and_labels_are_not(pinned: list[Tensor]) -> None:
    moved = kept(SPLITS, META, BYTES)
    assert [split.name for split in moved] == ["public", "private"]
    assert {tensor.device for split in moved for tensor in split.inputs} == {META}
    assert {split.labels.device.type for split in moved} == {"cpu"}
    assert pinned == []
    assert bytes_on(META, moved) == BYTES
    assert bytes_on(META, SPLITS) == 0


def test_inputs_that_do_not_fit_are_pinned(pinned: list[Tensor]) -> None:
    moved = kept(SPLITS, META, BYTES - 1)
    assert {tensor.device.type for split in moved for tensor in split.inputs} == {"cpu"}
    assert len(pinned) == 4


def test_where_nothing_can_be_pinned_marking_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Tensor, "pin_memory", refuse)
    assert torch.equal(kept(SPLITS, META, 0)[0].inputs[0], SPLITS[0].inputs[0])


def test_all_rubrics_of_a_slot_share_the_room(write_rubric, monkeypatch: pytest.MonkeyPatch, pinned: list[Tensor], tmp_path: Path) -> None:
    folder = write_rubric()
    (tmp_path / "other").mkdir()
    for name in ("rubric.toml", "toy.npz"):
        (tmp_path / "other" / name).write_bytes((folder / name).read_bytes())
    bench = Bench()
    bench.device = META
    monkeypatch.setattr(bench_module, "_room", lambda _: 30 * 4 * 4)
    for place, wanted in ((folder, "meta"), (tmp_path / "other", "cpu"), (folder, "meta")):
        ticket = MarkTicket(submission=1, path="", rubric=str(place), rubric_sha256=rubric_sha256(place))
        assert bench.load(ticket).splits[0].inputs[0].device.type == wanted


def test_a_rubric_for_the_cpu_keeps_its_data_there(write_rubric, pinned: list[Tensor]) -> None:
    folder = write_rubric('[run]\ndevice = "cpu"')
    bench = Bench()
    bench.device = META
    ticket = MarkTicket(submission=1, path="", rubric=str(folder), rubric_sha256=rubric_sha256(folder))
    assert bench.load(ticket).splits[0].inputs[0].device.type == "cpu"
    assert pinned == []


def test_a_factory_draws_alike_whatever_was_drawn_before(write_rubric) -> None:
    folder = write_rubric(changes={'path = "toy.npz"': 'path = "toy.npz"\nfactory = "data:make"\nseed = 3'})
    (folder / "data.py").write_text("import torch\ndef make(path):\n    return [(torch.rand(4), i % 3) for i in range(6)]\n")
    ticket = MarkTicket(submission=1, path="", rubric=str(folder), rubric_sha256=rubric_sha256(folder))
    first = Bench().load(ticket).splits[0].inputs[0]
    torch.rand(7)
    np.testing.assert_array_equal(Bench().load(ticket).splits[0].inputs[0], first)


def test_both_splits_come_to_the_bench(write_rubric) -> None:
    folder = write_rubric(changes={'path = "toy.npz"': 'path = "toy.npz"\npublic = 0.2'})
    ticket = MarkTicket(submission=1, path="", rubric=str(folder), rubric_sha256=rubric_sha256(folder))
    public, private = Bench().load(ticket).splits
    assert (public.name, len(public.labels), private.name, len(private.labels)) == ("public", 6, "private", 24)
    assert public.labels.bincount().tolist() == [2, 2, 2]
