"""A GPU that fails, simulated: torch says what it says on one, and no driver is asked."""

from __future__ import annotations

import contextlib
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path

import msgspec
import pytest
import torch
from submitting import failed, outcome_of, refused
from torch import nn

from fifomark.core.errors import InternalError
from fifomark.core.outcome import Failed, MarkTicket, Outcome, Refused
from fifomark.marking.evaluation import Bench
from fifomark.marking.rubric import rubric_sha256
from fifomark.workers.main import serve_marking
from fifomark.workers.post import LOADED, LOADING, READY, SPENT, UNFIT
from fifomark.workers.process import BOOT_FAILURE
from fifomark.workers.slots import Slot

NET = """
from torch import nn

class Net(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)
        self.times = 0

    def forward(self, x):
        self.times += len(x) > 2  # the rubric is tried on two
        if self.times:
            raise RuntimeError({message!r})
        return super().forward(x)
"""
CPU = Slot(name="cpu", device="cpu", visible="")


def one_gpu(monkeypatch: pytest.MonkeyPatch, count: int = 1, sum: float = 8.0) -> list[tuple[float, torch.device]]:
    """Let torch see GPUs; gives the shares of memory that are asked for."""
    shares: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append((share, device)))
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.full(shape, sum / 8))
    return shares


def broken(write_rubric, message: str) -> Path:
    folder = write_rubric(changes={'families = ["logistic", "mlp"]': 'factory = "models:Net"'})
    (folder / "models.py").write_text(NET.format(message=message))
    return folder


# Before the first model


def test_a_worker_takes_its_share_of_the_memory_of_the_one_gpu_that_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = one_gpu(monkeypatch)
    assert Bench("cuda", share=0.5).device == torch.device("cuda", 0)
    assert shares == [(0.5, torch.device("cuda", 0))]
    Bench("cuda")
    assert len(shares) == 1  # all of it is nothing to ask for


@pytest.mark.parametrize(
    ("count", "sum", "said"), [(0, 8, "torch sees none"), (2, 8, "torch sees 2: something has changed"), (1, 7, "cannot add")]
)
def test_what_is_not_one_sound_gpu_is_no_slot(monkeypatch: pytest.MonkeyPatch, count: int, sum: float, said: str) -> None:
    one_gpu(monkeypatch, count, sum)
    with pytest.raises(InternalError, match=said):
        Bench("cuda")


def test_a_worker_that_cannot_be_set_up_says_why_and_is_not_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = Pipe()
    with pytest.raises(SystemExit) as ended:
        serve_marking(theirs, Slot(name="cuda:0", device="cuda", visible="0"))
    assert ended.value.code == BOOT_FAILURE
    assert ours.recv_bytes() == UNFIT + b"this slot is a GPU, but torch sees none"
    assert "Traceback" not in capsys.readouterr().err  # the message says it all


# While it marks


@pytest.mark.parametrize("message", ["CUDA error: unspecified launch failure", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling x"])
def test_a_gpu_that_fails_is_no_fault_of_the_model(write_rubric, message: str) -> None:
    folder = broken(write_rubric, message)
    code, said = failed(outcome_of(nn.Linear(4, 3), folder))
    assert (code, said) == ("device-error", f"its GPU failed: {message}")


def test_a_model_that_asks_for_what_is_not_there_is_at_fault_itself(write_rubric) -> None:
    folder = broken(write_rubric, "CUDA error: device-side assert triggered")
    assert [code for code, _ in refused(outcome_of(nn.Linear(4, 3), folder))] == ["FM603"]


@pytest.mark.parametrize("message", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling y"])
def test_memory_that_runs_out_below_torch_is_told_as_that(write_rubric, message: str) -> None:
    folder = broken(write_rubric, message)
    assert [code for code, _ in refused(outcome_of(nn.Linear(4, 3), folder))] == ["FM602"]


def test_an_error_that_stays_with_the_process_shows_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    assert bench.is_fit()
    bench.device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert bench.is_fit()

    def sticky(device: torch.device) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", sticky)
    assert not bench.is_fit()


def test_a_worker_whose_device_is_no_longer_fit_says_so_before_the_outcome(write_rubric, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = broken(write_rubric, "CUDA error: device-side assert triggered")
    monkeypatch.setattr(Bench, "is_fit", lambda self: False)
    ours, theirs = Pipe()
    torch.save(nn.Linear(4, 3).state_dict(), folder / "clean.pt")
    ticket = MarkTicket(submission=1, path=str(folder / "clean.pt"), rubric=str(folder), rubric_sha256=rubric_sha256(folder))
    ours.send_bytes(msgspec.json.encode(ticket))

    def serve() -> None:
        with contextlib.suppress(EOFError):
            serve_marking(theirs, CPU)

    serving = threading.Thread(target=serve)
    serving.start()
    assert [ours.recv_bytes() for _ in range(4)] == [READY, LOADING, LOADED, SPENT]
    outcome: Outcome = msgspec.json.decode(ours.recv_bytes(), type=Refused | Failed)
    ours.close()
    serving.join()
    theirs.close()
    assert isinstance(outcome, Refused), outcome
    assert "models" not in sys.modules
