from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fifomark
from fifomark.core.errors import ConfigError
from fifomark.marking.rubric import load_rubric, rubric_sha256

EXAMPLE = Path(fifomark.__file__).parent / "examples" / "digits"
CRITERION = '[[criterion]]\nid = "a"\ntitle = "A"\npoints = 10\n'
STEPS = CRITERION + "metric = 'accuracy'\nscoring = {{kind = 'steps', steps = {}}}"


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


METRIC = "[[metric]]\nid = 'm'\nkind = 'Multiclass{}'\n{}\n"
SCORED = "[[criterion]]\nid = 'a'\npoints = 10\nmetric = 'm'\nscoring = {{{}}}\n"


@pytest.mark.parametrize(
    "more",
    [
        METRIC.format("CalibrationError", "") + SCORED.format("kind = 'linear', from = 1, to = 0"),
        METRIC.format("CalibrationError", "higher_is_better = true") + SCORED.format("kind = 'linear', from = 0, to = 1"),
        METRIC.format("CalibrationError", "") + SCORED.format("kind = 'steps', steps = [[0.1, 10], [0.2, 5]]"),
        METRIC.format("F1Score", "args = {num_classes = 3}") + SCORED.format("kind = 'threshold', at_least = 0.2, at_most = 0.9"),
        "[[metric]]\nid = 'm'\nkind = 'parameters'\n" + SCORED.format("kind = 'threshold', at_least = 100"),
        METRIC.format("F1Score", "") + SCORED.format("kind = 'linear', from = -0.5, to = 1"),
        METRIC.format("HingeLoss", "") + SCORED.format("kind = 'threshold', at_most = 1.5"),
        METRIC.format("CohenKappa", "") + SCORED.format("kind = 'threshold', at_least = 0"),
        METRIC.format("F1Score", "") + SCORED.format("kind = 'steps', steps = [[0, 2], [1, 10]]"),
    ],
)
def test_a_criterion_with_its_metrics_sense_is_right(write_rubric, more: str) -> None:
    assert load_rubric(write_rubric(more)).criteria[0].points == 10


@pytest.mark.parametrize(
    ("more", "changes", "key", "said"),
    [
        ("", {"families": "familys"}, "model.familys", "did you mean 'families'"),
        ("", {'"mlp"': '"mpl"'}, "model.families", "did you mean 'mlp'"),
        ("[model.mlp]\nactivation = 'relu'", {'"mlp"': '"mpl"'}, "model.families", "did you mean 'mlp'"),
        ("", {'"mlp"': '"cnn"'}, "model.cnn", "layers"),
        ("[model.mlp]\nactivaton = 'relu'", {}, "model.mlp.activaton", "did you mean 'activation'"),
        ("[model.mlp]\nactivation = 'rleu'", {}, "model.mlp.activation", "relu"),
        ("[model.rnn]\npooling = 'last'", {}, "model.rnn", "not in model.families"),
        ("[[metric]]\nid = 'a'\nkind = 'MulticlassAcuracy'", {}, "metric.a.kind", "did you mean 'MulticlassAccuracy'"),
        ("[[metric]]\nid = 'a'\nkind = 'MeanSquaredError'", {}, "metric.a.kind", "no metric for multiclass"),
        ("[[metric]]\nid = 'a'\nkind = 'parameters'\n[[metric]]\nid = 'a'\nkind = 'parameters'", {}, "metric", "two metrics"),
        ("[[metric]]\nid = 'a'\nkind = 'parameters'\nargs = {x = 1}\n", {}, "metric.a.args", "no arguments"),
        ("[[metric]]\nid = 'f1'\nkind = 'MulticlassF1Score'", {}, "criterion", "is missing"),
        ("[[metric]]\nid = 'accuracy'\nkind = 'MulticlassHammingDistance'", {}, "criterion", "is missing"),
        (METRIC.format("F1Score", "args = {num_classes = 4}"), {}, "metric.m.args.num_classes", "is 4, but the task has 3 (leave it out"),
        (
            METRIC.format("CalibrationError", "") + SCORED.format("kind = 'linear', from = 0, to = 1"),
            {},
            "criterion.a.scoring",
            "gives points for worse models: all at 1, none at 0 (less MulticlassCalibrationError is better; if not here, say",
        ),
        (
            METRIC.format("F1Score", "") + SCORED.format("kind = 'linear', from = 1, to = 0"),
            {},
            "criterion.a.scoring",
            "all at 0, none at 1 (more MulticlassF1Score is better; if not here, say higher_is_better = false",
        ),
        (METRIC.format("HingeLoss", "") + SCORED.format("kind = 'threshold', at_least = 2"), {}, "criterion.a.scoring", "from 2 up"),
        (METRIC.format("F1Score", "") + SCORED.format("kind = 'threshold', at_most = 2"), {}, "criterion.a.scoring", "from 2 down"),
        (STEPS.format("[[0.5, 10], [0.6, 5]]"), {}, "criterion.a.scoring", "10 at 0.5, and no more at 0.6"),
        (
            METRIC.format("F1Score", "") + SCORED.format("kind = 'linear', from = 0.3, to = 97"),
            {},
            "criterion.a.scoring.to",
            "asks for 97, but MulticlassF1Score is between 0 and 1: nobody could have all points (a share: 0.97)",
        ),
        (
            METRIC.format("F1Score", "") + SCORED.format("kind = 'threshold', at_least = 90"),
            {},
            "criterion.a.scoring.at_least",
            "a share: 0.9",
        ),
        (
            METRIC.format("CalibrationError", "") + SCORED.format("kind = 'threshold', at_most = -1"),
            {},
            "criterion.a.scoring.at_most",
            "asks for -1, but MulticlassCalibrationError is between 0 and 1",
        ),
        (
            METRIC.format("CalibrationError", "") + SCORED.format("kind = 'threshold', at_most = 1.5"),
            {},
            "criterion.a.scoring",
            "gives all points to every model (at_most 1.5): MulticlassCalibrationError is between 0 and 1 (a share: 0.015)",
        ),
        (
            METRIC.format("F1Score", "") + SCORED.format("kind = 'linear', from = -1, to = 0"),
            {},
            "criterion.a.scoring",
            "to every model (to 0)",
        ),
        (METRIC.format("HingeLoss", "") + SCORED.format("kind = 'linear', from = 1, to = -1"), {}, "criterion.a.scoring.to", "at least 0"),
        (STEPS.format("[[0.5, 5], [97, 10]]"), {}, "criterion.a.scoring.steps", "asks for 97, but MulticlassAccuracy"),
        (
            METRIC.format("CalibrationError", "") + SCORED.format("kind = 'steps', steps = [[0.1, 5], [-0.1, 10]]"),
            {},
            "criterion.a.scoring.steps",
            "asks for -0.1",
        ),
        (
            "[[metric]]\nid = 'm'\nkind = 'macs'\n" + SCORED.format("kind = 'threshold', at_most = -1"),
            {},
            "criterion.a.scoring.at_most",
            "-1",
        ),
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
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'linaer', from = 0, to = 1}", {}, "criterion.a.scoring.kind", "linear"),
        (CRITERION + "metric = 'accuracy'\nscoring = {kind = 'linear', form = 0, to = 1}", {}, "criterion.a.scoring.form", "from"),
        (CRITERION + "check = 'loads'\n" + CRITERION + "check = 'loads'\n", {}, "criterion", "two criteria"),
        (CRITERION.replace("10", "0") + "check = 'loads'\n", {}, "criterion", "no points"),
        (CRITERION.replace('id = "a"', "") + "check = 'loads'\n", {}, "criterion[0].id", "is missing"),
        (CRITERION.replace('"a"', "3") + "check = 'loads'\n", {}, "criterion[0].id", "expected text, found 3"),
        ("", {"[rubric]": "criterion = 3\n[rubric]"}, "criterion", "expected a list, found 3"),
        ("", {"[rubric]": "criterion = [3]\n[rubric]"}, "criterion[0]", "expected a table, found 3"),
        (METRIC.format("F1Score", "precison = 2"), {}, "metric.m.precison", "did you mean 'precision'"),
        ("", {"[task]": "[task]\ntype = 'multiclass'"}, "task.type", "did you mean 'multiclass-classification'"),
        ("", {"[task]": "[task]\ntype = 'multilabel'"}, "task.type", "did you mean 'multilabel-classification'"),
        ("[run]\ndevice = 'gpu'", {}, "run.device", "did you mean 'cuda'"),
        ("[run]\nprecision = 'double'", {}, "run.precision", "did you mean 'float64'"),
        (CRITERION.replace("10", "nan") + "check = 'loads'\n", {}, "criterion.a.points", "nan"),
        (
            CRITERION + "check = 'loads'\n" + CRITERION.replace("10", "0").replace('"a"', '"b"') + "check = 'memory'\n",
            {},
            "criterion.b.points",
            "is 0: it could give nobody anything",
        ),
        (CRITERION.replace("10", "-1") + "check = 'loads'\n", {}, "criterion.a.points", "expected a number of at least 0, found -1"),
        (
            "[grading.late]\ndue = 2026-12-01T23:59:00Z\nshare = 0.5\nmost = 0.1",
            {},
            "grading.late.most",
            "is 0.1, less than the share of 0.5 that the first delay costs",
        ),
        ("[grading]\npass_mark = 1.5", {}, "grading.pass_mark", "found 1.5"),
        (STEPS.format("[[0.5, 9]]"), {}, "criterion.a.scoring", "no step gives all of the criterion's 10 points"),
        (STEPS.format("[[0.5, 5], [0.5, 10]]"), {}, "criterion.a.scoring", "two steps are at 0.5"),
        (
            CRITERION + "metric = 'accuracy'\nscoring = {kind = 'threshold', at_least = 2, at_most = 1}",
            {},
            "criterion.a.scoring",
            "wrong way",
        ),
        (STEPS.format("[[0.5, 10]]") + "\nsplit = 'private'", {}, "criterion.a.split", "the data is not split"),
        (STEPS.format("[[0.5, 10]]") + "\nsplit = 'all'", {"sha256": "public = 0.5\nsha256"}, "criterion.a.split", "'public' or 'private'"),
        (STEPS.format("[[0.5, 10]]") + "\nsplit = 'privat'", {}, "criterion.a.split", "did you mean 'private'"),
        (CRITERION + "check = 'load'", {}, "criterion.a.check", "did you mean 'loads'"),
        (CRITERION + "check = 'batchsize'", {}, "criterion.a.check", "did you mean 'batch_size'"),
        (CRITERION + "check = 'repeat'\n[audits]\nrepeat = 'off'", {}, "criterion.a.check", 'audits.repeat = "flag"'),
        (CRITERION + "check = 'loads'\nsplit = 'public'", {}, "criterion.a.split", "not made on a split"),
        ("[[grading.bands]]\ngrade = 'A'\nfrom = 0.5\n" * 2, {}, "grading.bands", "two bands are called 'A'"),
        ("[grading]\nbands = [{grade = 'A', from = 0.5}, {grade = 'B', from = 0.5}]", {}, "grading.bands", "begin at 0.5"),
        ("[grading]\nrounding = {step = 300}", {}, "grading.rounding.step", "makes 0 of all 100 points"),
        ("[grading]\nrounding = {step = 7}", {}, "grading.rounding.step", "makes 98 of all 100 points"),
        ("[grading.late]\nshare = 0.1", {}, "grading.late.due", "is missing"),
        ("[grading.late]\ndue = 2026-12-01T23:59:00", {}, "grading.late.due", "2026-12-01T23:59:00Z"),
        ("[grading.late]\ndue = 2026-12-01", {}, "grading.late.due", "a date with a time"),
        ("[grading.late]\ndue = 2026-12-01T23:59:00Z\nhour = 2", {}, "grading.late.hour", "did you mean 'hours'"),
        ("[attempts]\nday_zone = 'Europe/Berln'", {}, "attempts.day_zone", "did you mean 'Europe/Berlin'"),
        ("[attempts]\nday_zone = '/etc/passwd'", {}, "attempts.day_zone", "is no time zone"),
        ("[attempts]\nday_zone = 'Europe'", {}, "attempts.day_zone", "is no time zone"),
        ("[attempts]\nmax_total = 3\ncounts = []", {}, "attempts.counts", "no limit is ever reached"),
        ("[attempts]\ncounts = ['marked']", {}, "attempts.counts[0]", "done"),
        ("[leaderboard]\nsplit = 'public'", {}, "leaderboard.split", "the data is not split"),
        ("[leaderboard]\nsplit = 'all'", {"sha256": "split = 'part'\nsha256"}, "leaderboard.split", "'public' or 'private'"),
        ("[leaderboard]\nnames = 'pseudonyms'", {}, "leaderboard.names", "did you mean 'pseudonym'"),
        ("[leaderboard]\nprimary = 'acuracy'", {}, "leaderboard.primary", "did you mean 'accuracy'"),
        ("[submission]\nowner_from = '(?P<name>.*)'", {}, "submission.owner_from", "no group named owner"),
        ("[submission]\nowner_from = '(?P<owner>'", {}, "submission.owner_from", "no regular expression"),
        ("", {"num_classes = 3": "num_classes = 3\nclass_names = ['a']"}, "task.class_names", "names 1 classes"),
        ("", {"shape = [4]": "shape = [4]\nmean = [1.0, 2.0]"}, "input.mean", "has 2 numbers"),
        ("", {"shape = [4]": "shape = [4]\ndtype = 'int64'\nscale = 0.5"}, "input.dtype", "cannot be scaled"),
        ("", {"shape = [4]": "shape = [4]\ndtype = 'int64'\nmean = 0.5"}, "input.dtype", "cannot be scaled"),
        ("", {"shape = [4]": "shape = [4]\nmean = 'half'"}, "input.mean", "expected a number or a list, found text 'half'"),
        ("", {"shape = [4]": "shape = [4]\nstd = 0"}, "input.std", "above 0, found 0"),
        ("", {"shape = [4]": "shape = []"}, "input.shape", "that is not empty"),
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


def test_points_attempts_and_ranking_may_be_said_in_full(write_rubric) -> None:
    more = """
[[criterion]]
id = "small"
title = "Small"
points = 5
metric = "parameters"
split = "private"
scoring = {kind = "threshold", at_most = 100}
[[criterion]]
id = "steady"
title = "Steady"
points = 5
check = "batch_size"
[[metric]]
id = "parameters"
kind = "parameters"
[grading.late]
due = 2026-12-01T23:59:00+01:00
share = 0.1
grace_minutes = 15
[attempts]
max_total = 10
max_per_day = 3
day_zone = "America/Argentina/Buenos_Aires"
keep = "last"
[leaderboard]
names = "pseudonym"
split = "private"
[feedback]
metrics = "none"
"""
    rubric = load_rubric(write_rubric(more, changes={"[data]": "[data]\npublic = 0.3"}))
    assert rubric.splits == ("public", "private")
    assert rubric.ranked_on == "private"
    assert rubric.grading.late is not None
    assert rubric.grading.late.due.utcoffset() is not None


def test_what_the_page_about_grading_shows_is_a_rubric(write_rubric) -> None:
    page = (Path(__file__).parents[2] / "docs/grading.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    rubric = load_rubric(write_rubric("".join(blocks), changes={"[data]": "[data]\npublic = 0.3"}))
    assert [criterion.id for criterion in rubric.criteria] == ["accuracy", "steady"]
    assert rubric.grading.late is not None


def test_what_the_example_leaves_out_may_be_put_in_as_it_stands(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "digits")
    path = tmp_path / "digits" / "rubric.toml"
    text = path.read_text()
    last = text.rindex("# [grading.late]")
    path.write_text(text[:last] + re.sub(r"^# ?", "", text[last:], flags=re.MULTILINE))
    rubric = load_rubric(tmp_path / "digits")
    assert (rubric.grading.late is not None, rubric.attempts.max_per_day) == (True, 5)


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
