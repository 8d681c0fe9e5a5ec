from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fifomark
from fifomark.core.outcome import Evaluation, Marked, MarkTicket, Outcome, Refused
from fifomark.demo import BROKEN, FILES, TRAINED, train
from fifomark.demo.bad import write_bad_files
from fifomark.marking.evaluation import Bench, evaluate
from fifomark.marking.rubric import load_rubric, rubric_sha256

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # still submitted, so still tested
DIGITS = Path(fifomark.__file__).parent / "examples" / "digits"
MODELS = {
    "ada__logistic.pt": train.logistic,
    "blaise__mlp.pt": train.mlp,
    "charles__cnn.pt": train.CNN,
    "dorothy__gru.pt": train.GRU,
    "emmy__transformer.pt": train.Transformer,
    "frances__cnn_script.pt": train.CNN,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    """The folder that a real run has filled, and what the run said."""
    folder = tmp_path_factory.mktemp("demo")
    out = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fifomark.demo.train", str(folder)], check=True, capture_output=True, text=True
    )
    assert out.stderr == ""
    return folder, [json.loads(line) for line in out.stdout.splitlines()]


def weights_in(path: Path) -> dict[str, Tensor]:
    """What the sanitizer would take from a file that we trust."""
    if path.name == "frances__cnn_script.pt":
        loaded = torch.jit.load(path)
    else:
        loaded = torch.load(path, weights_only=False)
    found: Mapping[str, Tensor] = loaded.state_dict() if isinstance(loaded, nn.Module) else loaded.get("model_state_dict", loaded)
    return {name.removeprefix("module."): tensor.detach() for name, tensor in found.items()}


def marked(weights: Mapping[str, Tensor], folder: Path) -> Outcome:
    torch.save(dict(weights), folder / "clean.pt")
    ticket = MarkTicket(submission=1, path=str(folder / "clean.pt"), rubric=str(DIGITS), rubric_sha256=rubric_sha256(DIGITS))
    return evaluate(ticket, Bench())


def evaluated(weights: Mapping[str, Tensor], folder: Path) -> Evaluation:
    outcome = marked(weights, folder)
    assert isinstance(outcome, Marked), outcome
    return outcome.evaluation


def accuracy(evaluation: Evaluation) -> float:
    (value,) = (metric.value for metric in evaluation.metrics if metric.id == "accuracy")
    assert value is not None
    return value


def test_progress_comes_as_json_lines_and_every_step_is_finished(run) -> None:
    _, lines = run
    assert all(line.keys() == {"step", "done"} for line in lines)
    assert [line["step"] for line in lines if line["done"] == 1.0] == list(train.RECIPES)
    assert sorted(float(line["done"]) for line in lines)[0] > 0


def test_the_folder_holds_just_the_files_that_the_list_names(run, tmp_path: Path) -> None:
    folder, _ = run
    for name in os.listdir(folder):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_bad_files(tmp_path, tmp_path / "marker")
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)
    assert set(os.listdir(folder)) > set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_the_mark_is_what_a_plain_script_says(run, tmp_path: Path, name: str) -> None:
    folder, _ = run
    weights = weights_in(folder / name)
    model = MODELS[name]().eval()
    model.load_state_dict(weights)
    x, y = train.load_split("test")
    with torch.no_grad():
        plain = (model(x).argmax(1) == y).numpy().mean()
    evaluation = evaluated(weights, tmp_path)
    assert accuracy(evaluation) == plain
    assert plain >= (0.93 if name == "ada__logistic.pt" else 0.95)


def test_a_pickled_module_and_its_state_dict_get_the_same_mark(run, tmp_path: Path) -> None:
    folder, _ = run
    module = torch.load(folder / "blaise__mlp.pt", weights_only=False)
    assert isinstance(module, nn.Sequential)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    as_module = evaluated(weights_in(folder / "blaise__mlp.pt"), tmp_path)
    assert as_module.metrics == evaluated(weights_in(tmp_path / "state.pt"), tmp_path).metrics


def test_torchscript_of_the_cnn_gets_the_mark_of_the_cnn(run, tmp_path: Path) -> None:
    folder, _ = run
    script, checkpoint = (evaluated(weights_in(folder / name), tmp_path) for name in ("frances__cnn_script.pt", "charles__cnn.pt"))
    assert script.metrics == checkpoint.metrics


def test_each_file_is_saved_in_its_own_way(run) -> None:
    folder, _ = run
    bodies = {name: (folder / name).read_bytes() for name in TRAINED}
    assert [name for name, body in bodies.items() if not body.startswith(b"PK")] == ["emmy__transformer.pt"]
    assert b"constants.pkl" in bodies["frances__cnn_script.pt"]
    assert b"torch.nn.modules.container" in bodies["blaise__mlp.pt"]
    assert {"epoch", "model_state_dict", "optimizer_state_dict"} == torch.load(folder / "charles__cnn.pt").keys()
    assert all(name.startswith("module.") for name in torch.load(folder / "dorothy__gru.pt"))


def test_the_broken_ones_that_torch_writes_are_refused(run, tmp_path: Path) -> None:
    folder, _ = run
    diverged = marked(weights_in(folder / "grace__diverged.pt"), tmp_path)
    other_task = marked(weights_in(folder / "henri__other_task.pt"), tmp_path)
    assert isinstance(diverged, Refused)
    assert isinstance(other_task, Refused)
    assert (diverged.findings[0].code, other_task.findings[0].code) == ("FM605", "FM505")


def test_making_the_bad_files_runs_nothing_and_loading_one_would(run, tmp_path: Path) -> None:
    folder, _ = run
    (tmp_path / "charles__cnn.pt").write_bytes((folder / "charles__cnn.pt").read_bytes())
    marker = tmp_path / "it's been run"
    write_bad_files(tmp_path, marker)
    assert not marker.exists()
    torch.load(tmp_path / "mallory__surprise.pt", weights_only=False)
    assert marker.exists()
    with pytest.raises((RuntimeError, OSError)):
        torch.load(tmp_path / "john__truncated.pt")


def test_bad_files_are_made_without_torch() -> None:
    code = "import sys, fifomark.demo.bad; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_file_has_an_owner_of_its_own() -> None:
    rubric = load_rubric(DIGITS)
    assert {rubric.owner_of(name) for name in FILES} == {name.split("__")[0] for name in FILES}
    assert len(FILES) == len(TRAINED) + len(BROKEN) == 12
