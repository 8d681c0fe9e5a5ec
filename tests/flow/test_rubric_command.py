"""`fifomark rubric check` and `fifomark rubric new`, on the examples in docs/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fifomark.cli.main import main
from fifomark.marking.rubric import load_rubric

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FIFOMARK, "rubric", *map(str, arguments)], capture_output=True, text=True, timeout=240)


def test_a_good_rubric_tells_a_good_model_from_one_that_knows_nothing() -> None:
    seen = command("check", EXAMPLES / "mnist", "--model", EXAMPLES / "mnist" / "reference.pt", "--json")
    assert seen.returncode == 0, seen.stderr
    checked = json.loads(seen.stdout)
    assert checked["schema"] == "fifomark.rubric-check/1"
    assert (checked["baseline"]["pass"], checked["reference"]["grade"]["pass"]) == (False, True)
    assert checked["problems"] == []
    (note,) = checked["notes"]  # whoever always says how often each class is right is calibrated; parameters are no matter of knowing
    assert note.startswith("criterion.calibrated: it gives the reference model no more than what knows nothing, 2 of 2 points to both")


def test_a_criterion_that_tells_nothing_apart_is_named_below_the_points() -> None:
    seen = command("check", EXAMPLES / "mnist", "--model", EXAMPLES / "mnist" / "reference.pt")
    assert seen.returncode == 0, seen.stderr
    assert "\nlook at criterion.calibrated: it gives the reference model no more than what knows nothing" in seen.stdout
    assert "look at criterion.small" not in seen.stdout


def test_a_rubric_that_anybody_passes_or_that_its_reference_fails_is_no_good(tmp_path: Path) -> None:
    folder = tmp_path / "motions"
    folder.mkdir()
    text = (EXAMPLES / "motions" / "rubric.toml").read_text().replace('"data/', f'"{EXAMPLES / "motions" / "data"}/')
    (folder / "rubric.toml").write_text(text + "\n[grading]\npass_mark = 0.0\n")
    easy = command("check", folder)
    assert easy.returncode == 1
    assert "knows nothing" in easy.stdout
    assert "passes: ask for more" in easy.stderr
    (folder / "rubric.toml").write_text(text)
    hard = command("check", folder, "--model", EXAMPLES / "motions" / "submissions" / "zeno__ten.pt")
    assert hard.returncode == 1
    assert "does not pass: ask for less" in hard.stderr
    wrong = command("check", folder, "--model", EXAMPLES / "mnist" / "reference.pt")
    assert wrong.returncode == 1
    assert "has no mark: the family of this network is cnn" in wrong.stderr


@pytest.mark.parametrize(("name", "family"), [("mnist", "cnn"), ("motions", "rnn"), ("docstrings", "transformer")])
def test_a_new_rubric_is_one_that_its_reference_is_marked_by(name: str, family: str, tmp_path: Path) -> None:
    folder, reference = tmp_path / "rubrics" / name, EXAMPLES / name / "reference.pt"
    made = command("new", folder, "--data", EXAMPLES / name / "data" / f"{name}.npz", "--model", reference)
    assert made.returncode == 0, made.stderr
    rubric, theirs = load_rubric(folder), load_rubric(EXAMPLES / name)
    assert rubric.model.families == (family,)
    assert (rubric.task.num_classes, rubric.input.shape, rubric.input.dtype) == (
        theirs.task.num_classes,
        theirs.input.shape,
        theirs.input.dtype,
    )
    assert (rubric.data.input, rubric.data.label) == ("x_test", "y_test")
    checked = json.loads(command("check", folder, "--model", reference, "--json").stdout)
    assert checked["reference"]["state"] == "done"
    assert "look at" in made.stdout


def test_a_table_of_amounts_is_a_regression_on_all_its_columns(tmp_path: Path) -> None:
    made = command("new", tmp_path / "r", "--data", EXAMPLES / "diabetes" / "data" / "test.csv", "--label", "progression")
    assert made.returncode == 0, made.stderr
    rubric = load_rubric(tmp_path / "r")
    assert (rubric.task.type, rubric.input.shape, rubric.data.label) == ("regression", (10,), "progression")


def test_where_each_position_has_a_label_no_position_is_pooled_away(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tags.npz", x=rng.integers(0, 20, (30, 6)), y=rng.integers(0, 3, (30, 6)))
    layers = nn.ModuleDict({"embedding": nn.Embedding(20, 8), "gru": nn.GRU(8, 12, batch_first=True), "fc": nn.Linear(12, 3)})
    torch.save(layers.state_dict(), tmp_path / "tagger.pt")
    made = command("new", tmp_path / "r", "--data", tmp_path / "tags.npz", "--model", tmp_path / "tagger.pt")
    assert made.returncode == 0, made.stderr
    rubric = load_rubric(tmp_path / "r")
    assert (rubric.task.type, rubric.model.declared["rnn"]["pooling"]) == ("token-classification", "none")
    checked = command("check", tmp_path / "r", "--model", tmp_path / "tagger.pt", "--json")
    assert json.loads(checked.stdout)["reference"]["state"] == "done"


def test_what_cannot_be_told_is_asked_for_by_its_option(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", features=np.ones((20, 3)), classes=np.arange(20) % 2)
    labels = command("new", tmp_path / "r", "--data", tmp_path / "d.npz")
    assert (labels.returncode, "--label" in labels.stderr) == (2, True)
    inputs = command("new", tmp_path / "r", "--data", tmp_path / "d.npz", "--label", "classes")
    assert (inputs.returncode, "--input" in inputs.stderr) == (2, True)
    near = command("new", tmp_path / "r", "--data", tmp_path / "d.npz", "--label", "clases")
    assert "did you mean 'classes'?" in near.stderr
    assert not (tmp_path / "r" / "rubric.toml").exists()
    assert command("new", tmp_path / "r", "--data", tmp_path / "d.npz", "--label", "classes", "--input", "features").returncode == 0
    assert "is there already" in command("new", tmp_path / "r", "--data", tmp_path / "d.npz").stderr


# Asked, in a terminal


def talk(*arguments: object, answers: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`fifomark rubric new` with a terminal as its input, into which `answers` are typed; an end of file (Ctrl-D) comes after them."""
    ours, theirs = os.openpty()
    os.write(ours, answers.encode() + b"\x04")
    try:
        return subprocess.run(
            [FIFOMARK, "rubric", "new", *map(str, arguments)], stdin=theirs, capture_output=True, text=True, timeout=120, cwd=cwd
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_in_a_terminal_what_is_missing_is_asked_for_and_the_rubric_is_one_that_marks(tmp_path: Path) -> None:
    folder = EXAMPLES / "docstrings"
    answers = [folder / "data" / "docstrings.npz", folder / "reference.pt", "", "4", *[""] * 20]
    said = talk(answers="".join(f"{answer}\n" for answer in answers), cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "nhead, the number of attention heads [4]" in said.stderr
    made = tmp_path / "rubrics" / "docstrings"  # as was offered
    rubric = load_rubric(made)
    assert rubric.model.declared["transformer"]["nhead"] == 4
    assert "look at" not in said.stdout
    checked = json.loads(command("check", made, "--model", folder / "reference.pt", "--json").stdout)
    assert checked["reference"]["state"] == "done"


def test_what_names_tell_is_not_asked_and_a_wrong_answer_is_asked_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((20, 3), np.float32), classes=np.arange(20) % 2)
    said = talk("r", answers="nowhere.npz\nd.npz\nclases\nclasses\n\n", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "nowhere.npz: no such file" in said.stderr
    assert "clases: is not there" in said.stderr
    assert "holds the inputs" not in said.stderr
    assert "where to make" not in said.stderr
    assert load_rubric(tmp_path / "r").data.label == "classes"


def test_who_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    said = talk(answers="", cwd=tmp_path)
    assert said.returncode == 2
    assert "stopped; nothing was written" in said.stderr
    assert "Traceback" not in said.stderr
    assert os.listdir(tmp_path) == []


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    said = subprocess.run([FIFOMARK, "rubric", "new"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert said.returncode == 2
    assert "missing: FOLDER and --data FILE (in a terminal they are asked for)" in said.stderr


def test_examples_of_different_lengths_are_told_with_a_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jsonl").write_text('{"x": [1, 2, 3], "y": 0}\n{"x": [1], "y": 1}\n')
    assert main(["rubric", "new", str(tmp_path / "r"), "--data", str(tmp_path / "text.jsonl")]) == 2
    error = capsys.readouterr().err
    assert "text.jsonl: x: the examples have different lengths" in error
    assert "input.pad" in error
