from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

import fifomark
from fifomark.core.findings import Finding
from fifomark.core.outcome import Evaluation, Failed, Marked, MarkTicket, Outcome, Refused
from fifomark.marking import bench as bench_module
from fifomark.marking.evaluation import Bench, Measured, evaluate, measure
from fifomark.marking.grade import grade
from fifomark.marking.metrics import Meter
from fifomark.marking.rubric import load_rubric, rubric_sha256
from fifomark.marking.running import Examples, Misbehaved, Runner
from fifomark.marking.schema import Task

DIGITS = Path(fifomark.__file__).parent / "examples" / "digits"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def ticket(path: Path, rubric: Path = DIGITS) -> MarkTicket:
    return MarkTicket(submission=1, path=str(path), rubric=str(rubric), rubric_sha256=rubric_sha256(rubric))


def marked(model: nn.Module | dict[str, Tensor], folder: Path, bench: Bench, rubric: Path = DIGITS) -> Outcome:
    torch.save(model.state_dict() if isinstance(model, nn.Module) else model, folder / "clean.pt")
    return evaluate(ticket(folder / "clean.pt", rubric), bench)


def logistic(seed: int = 0) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(10, 64, generator=numbers), "bias": torch.randn(10, generator=numbers)}


def evaluated(outcome: Outcome) -> Evaluation:
    assert isinstance(outcome, Marked), outcome
    return outcome.evaluation


def finding(outcome: Outcome) -> Finding:
    assert isinstance(outcome, Refused), outcome
    return outcome.findings[0]


def test_random_weights_are_marked_and_get_a_low_mark(tmp_path: Path, bench: Bench) -> None:
    evaluation = evaluated(marked(logistic(), tmp_path, bench))
    mark = grade(evaluation, load_rubric(DIGITS))
    assert evaluation.metrics[0].id == "accuracy"
    assert evaluation.metrics[0].value is not None
    assert evaluation.metrics[0].value < 0.3
    assert (mark.passed, mark.band) == (False, "F")
    assert mark.points == 10  # it loads, and it is small
    assert evaluation.dataset_sha256 == load_rubric(DIGITS).data.sha256
    assert evaluation.device == "cpu"
    assert evaluation.torch_version == torch.__version__


def test_outputs_of_the_wrong_width_are_refused(tmp_path: Path, bench: Bench) -> None:
    seen = finding(marked(nn.Linear(64, 7), tmp_path, bench))
    assert seen.code == "FM604"
    assert "(8, 7)" in seen.message
    assert "(8, 10)" in seen.message


def test_nan_is_found_before_a_metric_takes_it_for_class_0(tmp_path: Path, bench: Bench) -> None:
    weights = logistic()
    weights["weight"][3, 5] = float("nan")
    assert finding(marked(weights, tmp_path, bench)).code == "FM605"


def test_an_overflow_that_only_one_example_shows_is_found(write_rubric, tmp_path: Path, bench: Bench) -> None:
    x = np.zeros((30, 4), np.float32)
    x[20] = 1e10
    weights = {"weight": torch.full((3, 4), 1e30), "bias": torch.zeros(3)}
    assert finding(marked(weights, tmp_path, bench, write_rubric(x=x))).code == "FM605"


def test_a_model_that_does_not_look_at_its_input_is_flagged(tmp_path: Path, bench: Bench) -> None:
    evaluation = evaluated(marked({"weight": torch.zeros(10, 64), "bias": torch.randn(10)}, tmp_path, bench))
    assert [seen.code for seen in evaluation.findings] == ["FM606"]
    assert evaluated(marked(logistic(), tmp_path, bench)).findings == ()


def test_the_same_file_gets_the_same_numbers_whatever_ran_before(tmp_path: Path, bench: Bench) -> None:
    first = evaluated(marked(logistic(), tmp_path, bench)).metrics
    torch.manual_seed(99)
    torch.rand(1000)
    torch.set_num_threads(2)
    marked(nn.Linear(64, 7), tmp_path, bench)
    evaluated(marked(logistic(1), tmp_path, bench))
    assert evaluated(marked(logistic(), tmp_path, bench)).metrics == first
    assert evaluated(marked(logistic(), tmp_path, Bench())).metrics == first


def test_half_precision_weights_are_marked_as_float32(tmp_path: Path, bench: Bench) -> None:
    half = {name: tensor.half() for name, tensor in logistic().items()}
    wide = {name: tensor.float() for name, tensor in half.items()}
    assert evaluated(marked(half, tmp_path, bench)).metrics == evaluated(marked(wide, tmp_path, bench)).metrics


def test_rubric_and_data_are_read_once_and_again_when_they_change(write_rubric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    load_data = bench_module.load_data
    monkeypatch.setattr(bench_module, "load_data", lambda *args: reads.append(args) or load_data(*args))
    folder, bench = write_rubric(), Bench()
    for _ in range(3):
        evaluated(marked(nn.Linear(4, 3), tmp_path, bench, folder))
    assert len(reads) == 1
    (folder / "rubric.toml").write_text((folder / "rubric.toml").read_text().replace("num_classes = 3", "num_classes = 5"))
    assert finding(marked(nn.Linear(4, 3), tmp_path, bench, folder)).code == "FM604"
    assert len(reads) == 2


def test_a_rubric_that_changed_under_the_queue_is_the_operators_failure(write_rubric, tmp_path: Path) -> None:
    folder = write_rubric()
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "clean.pt")
    before = ticket(tmp_path / "clean.pt", folder)
    (folder / "rubric.toml").write_text((folder / "rubric.toml").read_text() + "# changed\n")
    outcome = evaluate(before, Bench())
    assert isinstance(outcome, Failed)
    assert (outcome.reason.code, outcome.reason.blame) == ("rubric-changed", "operator")


def test_metric_arguments_that_are_wrong_are_the_operators_failure(write_rubric, tmp_path: Path) -> None:
    folder = write_rubric("[[metric]]\nid = 'accuracy'\nkind = 'MulticlassAccuracy'\nargs = {averag = 'micro'}")
    outcome = marked(nn.Linear(4, 3), tmp_path, Bench(), folder)
    assert isinstance(outcome, Failed)
    assert "metric.accuracy.args" in outcome.reason.message


def test_a_rubric_that_wants_a_gpu_fails_on_a_cpu_slot(write_rubric, tmp_path: Path) -> None:
    outcome = marked(nn.Linear(4, 3), tmp_path, Bench(), write_rubric("[run]\ndevice = 'cuda'"))
    assert isinstance(outcome, Failed)
    assert "run.device" in outcome.reason.message


def test_an_error_of_ours_is_never_the_submitters(tmp_path: Path, bench: Bench) -> None:
    (tmp_path / "clean.pt").write_bytes(b"no clean file at all")
    outcome = evaluate(ticket(tmp_path / "clean.pt"), bench)
    assert isinstance(outcome, Failed)
    assert (outcome.reason.code, outcome.reason.blame) == ("internal-error", "operator")


def runner(model: nn.Module) -> Runner:
    return Runner(model, Task(num_classes=3), CPU)


def run(model: nn.Module, x: Tensor, batch: int) -> Measured:
    labels = torch.arange(len(x)) % 3
    rubric = load_rubric(DIGITS)
    changed = replace(rubric, task=Task(num_classes=3), run=replace(rubric.run, batch_size=batch))
    return measure(runner(model), changed, (Examples("all", (x,), labels),), (Meter(changed, "all"),))


class _Greedy(nn.Module):
    """Runs out of memory with more than `most` examples at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x[:, :3]


def test_out_of_memory_halves_the_batch_and_runs_everything_again() -> None:
    model = _Greedy(20)
    seen = run(model, torch.randn(100, 4), 64)
    assert [audit.message for audit in seen.audits if not audit.passed] == ["out of memory with 64 examples at once: marked with 16"]
    assert model.seen == [8, 64, 8, 32, 8, *[16] * 6, 4, 8]
    assert seen.metrics[0].n == 100


def test_a_halved_batch_is_said_in_the_report(write_rubric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = nn.Linear.forward

    def greedy(self: nn.Linear, x: Tensor) -> Tensor:
        if len(x) > 10:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, x)

    monkeypatch.setattr(nn.Linear, "forward", greedy)
    evaluation = evaluated(marked(nn.Linear(4, 3), tmp_path, Bench(), write_rubric()))
    (audit,) = (audit for audit in evaluation.audits if not audit.passed)
    assert audit.id == "memory"
    assert "marked with 8" in audit.message


def test_a_model_that_never_fits_is_refused_for_its_memory() -> None:
    with pytest.raises(Misbehaved) as refused:
        run(_Greedy(0), torch.randn(8, 4), 8)
    assert refused.value.finding.code == "FM602"


class _Odd(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (ValueError("expected 4D input\nat line 7"), "FM603", "ValueError: expected 4D input"),
        ((torch.zeros(5, 3), None), "FM604", "tuple"),
        (torch.zeros(5, 3, dtype=torch.int64), "FM604", "int64"),
        (torch.zeros(5), "FM604", "(5,)"),
        (torch.full((5, 3), float("inf")), "FM605", "5 of 5"),
    ],
)
def test_a_model_that_misbehaves_is_a_finding(answer: object, code: str, said: str) -> None:
    with pytest.raises(Misbehaved) as refused:
        runner(_Odd(answer)).outputs([torch.randn(5, 4)], (5,))
    seen = refused.value.finding
    assert seen.code == code
    assert said in seen.message
    assert "line 7" not in seen.message


@pytest.mark.parametrize(
    ("output", "answer", "right"),
    [
        ("probabilities", torch.full((5, 3), 1 / 3), True),
        ("probabilities", torch.ones(5, 3), False),
        ("probabilities", torch.tensor([[1.5, -0.5, 0.0]] * 5), False),
        ("log-probabilities", torch.full((5, 3), 1 / 3).log(), True),
        ("log-probabilities", torch.zeros(5, 3), False),
        ("logits", torch.ones(5, 3), True),
    ],
)
def test_probabilities_are_checked_to_be_some(output: str, answer: Tensor, right: bool) -> None:
    asked = Runner(_Odd(answer), Task(num_classes=3, output=output), CPU)  # type: ignore[arg-type]
    if right:
        torch.testing.assert_close(asked.outputs([torch.randn(5, 4)], (5,)), answer)
        return
    with pytest.raises(Misbehaved, match=f"no {output}") as refused:
        asked.outputs([torch.randn(5, 4)], (5,))
    assert refused.value.finding.code == "FM604"
