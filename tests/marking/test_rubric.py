from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fifomark
from fifomark.core.errors import ConfigError
from fifomark.marking.rubric import load_rubric, rubric_sha256

EXAMPLE = Path(fifomark.__file__).parent / "examples" / "digits"
CRITERION = '[[criterion]]\nid = "a"\ntitle = "A"\npoints = 10\n'


@pytest.mark.parametrize("module", ["fifomark.marking", "fifomark.marking.rubric", "fifomark.marking.grade"])
def test_what_the_daemon_imports_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_example_rubric_is_right() -> None:
    rubric = load_rubric(EXAMPLE)
    assert set(rubric.model.families) == {"logistic", "mlp", "cnn", "rnn", "transformer"}
    assert sum(criterion.points for criterion in rubric.criteria) == 100


def test_the_smallest_rubric_measures_accuracy_for_a_hundred_points(write_rubric) -> None:
    rubric = load_rubric(write_rubric())
    (metric,), (criterion,) = rubric.metrics, rubric.criteria
    assert (metric.kind, metric.args) == ("MulticlassAccuracy", {"average": "micro"})
    assert (criterion.metric, criterion.points, criterion.scoring.start, criterion.scoring.end) == (metric.id, 100, 0, 1)
    assert rubric.limits.wall_seconds is None


@pytest.mark.parametrize(
    ("more", "changes", "key", "said"),
    [
        ("", {"families": "familys"}, "model.familys", "did you mean 'families'"),
        ("", {'"mlp"': '"mpl"'}, "model.families", "did you mean 'mlp'"),
        ("", {'"mlp"': '"cnn"'}, "model.cnn", "layers"),
        ("[model.mlp]\nactivaton = 'relu'", {}, "model.mlp.activaton", "did you mean 'activation'"),
        ("[model.mlp]\nactivation = 'rleu'", {}, "model.mlp.activation", "relu"),
        ("[model.rnn]\npooling = 'last'", {}, "model.rnn", "not in model.families"),
        ("[[metric]]\nid = 'a'\nkind = 'MulticlassAcuracy'", {}, "metric.a.kind", "did you mean 'MulticlassAccuracy'"),
        ("[[metric]]\nid = 'a'\nkind = 'MeanSquaredError'", {}, "metric.a.kind", "no metric for multiclass"),
        ("[[metric]]\nid = 'a'\nkind = 'parameters'\n[[metric]]\nid = 'a'\nkind = 'parameters'", {}, "metric", "two metrics"),
        ("[[metric]]\nid = 'a'\nkind = 'parameters'\nargs = {x = 1}\n", {}, "metric.a.args", "no arguments"),
        ("[[metric]]\nid = 'f1'\nkind = 'MulticlassF1Score'", {}, "criterion", "is missing"),
        (CRITERION, {}, "criterion.a", "judges nothing"),
        (CRITERION + "metric = 'accuracy'", {}, "criterion.a", "metric and scoring go together"),
        (CRITERION + "check = 'loads'\nscoring = {kind = 'linear', from = 0, to = 1}", {}, "criterion.a", "metric and scoring go together"),
        (
            CRITERION + "metric = 'acuracy'\nscoring = {kind = 'linear', from = 0, to = 1}",
            {},
            "criterion.a.metric",
            "did you mean 'accuracy'",
        ),
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'linear', from = 1, to = 1}", {}, "criterion.a.scoring", "both 1"),
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'threshold'}", {}, "criterion.a.scoring", "at_least"),
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'steps', steps = [[0.5, 11]]}", {}, "criterion.a.scoring", "more than"),
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'linaer', from = 0, to = 1}", {}, "criterion[0].scoring.kind", "linear"),
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'linear', form = 0, to = 1}", {}, "criterion[0].scoring.form", "from"),
        (CRITERION + "check = 'loads'\n" + CRITERION + "check = 'loads'\n", {}, "criterion", "two criteria"),
        (CRITERION.replace("10", "0") + "check = 'loads'\n", {}, "criterion", "no points"),
        (CRITERION.replace("10", "nan") + "check = 'loads'\n", {}, "criterion[0].points", "nan"),
        ("[grading]\npass_mark = 1.5", {}, "grading.pass_mark", "found 1.5"),
        ("[leaderboard]\nprimary = 'acuracy'", {}, "leaderboard.primary", "did you mean 'accuracy'"),
        ("[submission]\nowner_from = '(?P<name>.*)'", {}, "submission.owner_from", "no group named owner"),
        ("[submission]\nowner_from = '(?P<owner>'", {}, "submission.owner_from", "no regular expression"),
        ("", {"num_classes = 3": "num_classes = 3\nclass_names = ['a']"}, "task.class_names", "names 1 classes"),
        ("", {"shape = [4]": "shape = [4]\nmean = [1.0, 2.0]"}, "input.mean", "has 2 numbers"),
        ("", {"shape = [4]": "shape = [4]\ndtype = 'int64'\nscale = 0.5"}, "input.dtype", "cannot be scaled"),
        ("", {"shape = [4]": "shape = []"}, "input.shape", "length"),
        ("", {"toy.npz": "elsewhere.npz"}, "data.path", "cannot be read"),
        ("", {'sha256 = "': 'sha256 = "00'}, "data.sha256", "does not match"),
    ],
)
def test_what_is_wrong_in_a_rubric_is_named_by_its_key(write_rubric, more: str, changes: dict[str, str], key: str, said: str) -> None:
    folder = write_rubric(more, changes=changes)
    with pytest.raises(ConfigError) as caught:
        load_rubric(folder)
    assert caught.value.key == key
    assert said in str(caught.value)
    assert str(folder / "rubric.toml") in str(caught.value)


def test_a_missing_hash_is_told_so_that_it_can_be_copied(write_rubric) -> None:
    folder = write_rubric()
    text = (folder / "rubric.toml").read_text()
    sha256 = text.split('sha256 = "')[1][:64]
    (folder / "rubric.toml").write_text(text.replace(f'sha256 = "{sha256}"', ""))
    with pytest.raises(ConfigError, match=sha256):
        load_rubric(folder)


@pytest.mark.parametrize(
    ("pattern", "name", "owner"),
    [
        (None, "ada__logistic.pt", "ada"),
        (None, "ada.pt", "ada"),
        (None, "ada__try__2.pt", "ada"),
        (None, "__.pt", "__"),
        (None, "\udcff__x.pt", "\udcff"),
        (r"^(?P<owner>[a-z]+)-\d+", "bob-12.pt", "bob"),
        (r"^(?P<owner>[a-z]+)-\d+", "Bob__x.pt", "Bob"),
        (r"^((?P<owner>[a-z]+)-)?\d+", "12__x.pt", "12"),
    ],
)
def test_a_file_always_has_an_owner(write_rubric, pattern: str | None, name: str, owner: str) -> None:
    more = f"[submission]\nowner_from = '{pattern}'" if pattern else ""
    assert load_rubric(write_rubric(more)).owner_of(name) == owner


def test_the_hash_of_a_rubric_covers_its_python_and_not_its_name(write_rubric, tmp_path: Path) -> None:
    folder = write_rubric()
    plain = rubric_sha256(folder)
    assert rubric_sha256(folder) == plain
    (folder / "models.py").write_text("x = 1\n")
    with_python = rubric_sha256(folder)
    (folder / "models.py").write_text("x = 2\n")
    with_other_python = rubric_sha256(folder)
    (folder / "models.py").unlink()
    (folder / "rubric.toml").write_text((folder / "rubric.toml").read_text() + "\n# a word\n")
    assert len({plain, with_python, with_other_python, rubric_sha256(folder)}) == 4
