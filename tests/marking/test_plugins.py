"""Plugins: the example of docs/plugin-example installed and marked with, and broken ones that are told by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from submitting import evaluated, failed, outcome_of, refused, sanitized
from torch import nn

from fifomark import plugins
from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Failed, Outcome, PluginUsed, Sanitized, SanitizeTicket
from fifomark.core.policy import Limits, Policy
from fifomark.core.states import State
from fifomark.daemon.single import Marker
from fifomark.families import registry
from fifomark.marking.python import check_callable, load_callable
from fifomark.marking.rubric import load_rubric
from fifomark.workers.main import _sanitized

EXAMPLE = Path(__file__).parents[2] / "docs/plugin-example"
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, as pip installs it: without a network, and without leaving anything in docs/."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, capture_output=True, timeout=200)
    return folder / "site"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: nothing is imported yet."""
    monkeypatch.setattr(plugins, "_loaded", {})
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("fifomark_example", "broken_plugin")]:
        del sys.modules[name]


@pytest.fixture
def example(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))


@pytest.fixture
def rubric(write_rubric: Write) -> Write:
    def written(families: str = '["rbf"]', more: str = "") -> Path:
        return write_rubric(more, changes={'families = ["logistic", "mlp"]': f"families = {families}"})

    return written


def rbf(units: int = 5) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    shapes = {"bumps.centres": (units, 4), "bumps.log_widths": (units,), "out.weight": (3, units), "out.bias": (3,)}
    return {name: torch.randn(shape, generator=numbers) for name, shape in shapes.items()}


def test_the_example_is_installed_named_and_marked_with(example: None, rubric: Write) -> None:
    folder, weights = rubric(), rbf()
    evaluation = evaluated(outcome_of(weights, folder))
    arrays = np.load(folder / "toy.npz")
    x = torch.from_numpy(arrays["x"])
    near = torch.exp(-((torch.cdist(x, weights["bumps.centres"]) / weights["bumps.log_widths"].exp()) ** 2))
    right = (near @ weights["out.weight"].T + weights["out.bias"]).argmax(1).numpy() == arrays["y"]
    assert evaluation.metrics[0].value == right.mean()
    assert evaluation.source == "family rbf"
    assert evaluation.assumed == ("kernel = gaussian (not declared)",)
    assert evaluation.plugins == (PluginUsed(group="fifomark.families", name="rbf", distribution="fifomark-plugin-example", version="0.1"),)


def test_a_mark_without_a_spool_names_the_family_of_a_plugin_as_well(example: None, rubric: Write, tmp_path: Path) -> None:
    torch.save(rbf(), tmp_path / "a.pt")
    with Marker(rubric(), slot="cpu:1") as marker:
        report = marker.mark(tmp_path / "a.pt")
    assert report.state is State.DONE
    assert report.model is not None
    assert report.model.family == "rbf"


def test_what_a_plugin_says_of_weights_is_the_submitters(example: None, rubric: Write) -> None:
    folder = rubric()
    ((code, message),) = refused(outcome_of(rbf() | {"bumps.log_widths": torch.zeros(6)}, folder))
    assert (code, message) == ("FM505", "bumps.log_widths (6,): expected (5,), one for each centre")
    found = refused(outcome_of({name: tensor for name, tensor in rbf().items() if name != "bumps.log_widths"}, folder))
    assert [message for _, message in found] == ["bumps.centres (5, 4): stands there without bumps.log_widths"]
    ((code, message),) = refused(outcome_of(nn.Linear(4, 3), folder))
    assert (code, message) == ("FM503", "the family of this network is logistic; the task asks for rbf")


def test_facts_are_declared_of_a_plugin_as_of_our_own(example: None, rubric: Write) -> None:
    evaluation = evaluated(outcome_of(rbf(), rubric(more='[model.rbf]\nkernel = "inverse"')))
    assert (evaluation.declared, evaluation.assumed) == ({"kernel": "inverse"}, ())
    code, message = failed(outcome_of(rbf(), rubric(more='[model.rbf]\nkernel = "invers"')))
    assert code == "rubric-error"
    assert "model.rbf.kernel: 'invers' is not allowed (did you mean 'inverse'?)" in message


def test_a_plugin_that_nobody_names_is_never_imported(example: None, rubric: Write) -> None:
    evaluated(outcome_of(nn.Linear(4, 3), rubric('["logistic"]')))
    assert "fifomark_example" not in sys.modules
    assert plugins.names(plugins.FAMILIES) == ("rbf",)


def test_reading_a_rubric_imports_no_plugin(example: None, rubric: Write) -> None:
    """The daemon reads them, and must not wait for torch, nor die of somebody's module."""
    load_rubric(rubric())
    assert "fifomark_example" not in sys.modules


def test_a_plugin_that_is_not_installed_is_told_with_the_nearest(example: None, rubric: Write) -> None:
    with pytest.raises(ConfigError, match=r"model\.families: 'rbff' is no family \(did you mean 'rbf'\?\)"):
        load_rubric(rubric('["rbff"]'))


def test_sanitizing_names_the_family_of_a_plugin_and_whose_word_that_is(example: None, tmp_path: Path) -> None:
    outcome = sanitizing(tmp_path, ("rbf",))
    assert isinstance(outcome, Sanitized)
    family = outcome.inspection.family
    assert family is not None
    assert (family.name, family.evidence[-1]) == ("rbf", "recognised by the plugin 'rbf' of fifomark-plugin-example 0.1")
    without = sanitizing(tmp_path, ())
    assert isinstance(without, Sanitized)
    assert without.inspection.family is not None
    assert without.inspection.family.name != "rbf"


def sanitizing(folder: Path, families: tuple[str, ...]) -> Outcome:
    _, seen = sanitized(rbf(), folder)
    ticket = SanitizeTicket(submission=1, path="", name="", clean_path="", policy=Policy(), limits=Limits(), families=families)
    return _sanitized(seen, ticket)


# Data sets and metrics: the doorway


def test_data_sets_and_metrics_are_found_by_the_prefix(example: None, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("0.5 1.5 2\n1 2 0\n")
    make = load_callable(tmp_path, "plugin:lines", "rubric.toml", "data.factory", plugins.DATASETS)
    assert [(x.tolist(), int(y)) for x, y in make(tmp_path / "lines.txt")] == [([0.5, 1.5], 2), ([1.0, 2.0], 0)]
    check_callable(tmp_path, "plugin:top2", "rubric.toml", "metric.top2.kind", plugins.METRICS)
    top2 = load_callable(tmp_path, "plugin:top2", "rubric.toml", "metric.top2.kind", plugins.METRICS)
    assert top2(torch.tensor([[3.0, 2, 1], [3, 2, 1]]), torch.tensor([1, 2])) == 0.5


@pytest.mark.parametrize("running", [True, False])
def test_a_name_of_another_group_is_no_name_of_this_one(example: None, tmp_path: Path, running: bool) -> None:
    with pytest.raises(ConfigError) as e:
        (load_callable if running else check_callable)(tmp_path, "plugin:top2", "rubric.toml", "data.factory", plugins.DATASETS)
    assert str(e.value) == "rubric.toml: data.factory: no plugin of fifomark.datasets is called 'top2' (installed: lines)"


# Broken ones

WORKING = """
def net(forward):
    from torch import nn
    class Net(nn.Linear):
        def forward(self, x):
            return forward(super().forward(x))
    return Net(4, 3)
from fifomark.families.family import Family, Match
class Broken(Family):
    name = "broken"
    def judge(self, layers):
        return Match("broken", 1.0, (), (), {}, layers)
    def invariants(self, match):
        return []
    def build(self, match, declared, input_shape):
        from torch import nn
        return nn.Linear(4, 3)
"""


@pytest.fixture
def broken(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(body: str, distribution: str = "broken-thing", group: str = "families", name: str = "Broken", more: str = "") -> None:
        site = tmp_path_factory.mktemp("site")
        (site / "broken_plugin.py").write_text(body)
        info = site / f"{distribution.replace('-', '_')}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[fifomark.{group}]\nbroken = broken_plugin:{name}\n{more}")
        monkeypatch.syspath_prepend(str(site))

    return install


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("from fifomark", "import no_such_thing\nfrom fifomark", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("class Broken", "raise SystemExit(3)\nclass Broken", "SystemExit: 3"),
        ("class Broken", "class Other", "AttributeError: module 'broken_plugin' has no attribute 'Broken'"),
        ('name = "broken"', 'name = "else"', "TypeError: its entry point gives a family called 'else'"),
        ("class Broken(Family)", "class Broken", "TypeError: its entry point gives a Broken, expected a fifomark.families.family.Family"),
        ('return Match("broken"', 'raise ValueError("judged")\n        return Match("broken"', "ValueError: judged"),
        (
            'return Match("broken", 1.0, (), (), {}, layers)',
            "return {}",
            "TypeError: judge() gave a dict, expected a Match of 'broken' or None",
        ),
        ('return Match("broken"', 'return Match("logistic"', "TypeError: judge() gave a Match of 'logistic', expected"),
        ("1.0", "float('nan')", "TypeError: judge() gave a Match of strength nan, expected a number from 0 to 1"),
        ("return []", 'raise KeyError("checked")', "KeyError: 'checked'"),
        ("return []", "raise SystemExit", "SystemExit"),
        ("return []", "return None", "TypeError: invariants() gave a NoneType, expected a list of findings"),
        ("return nn.Linear(4, 3)", "return 5", "TypeError: build() gave a int, expected a torch.nn.Module"),
        (
            "return nn.Linear(4, 3)",
            "return nn.Sequential(nn.Linear(4, 3))",
            "TypeError: build() gave a model that the weights do not fit: 2 names lack the '0.' that the model wants before them",
        ),
        ("return nn.Linear(4, 3)", "raise SystemExit(1)", "SystemExit: 1"),
        ("return nn.Linear(4, 3)", "raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return nn.Linear(4, 3)", "return net(lambda seen: (seen, 1))", "the model returned tuple, expected a tensor of shape (8, 3)"),
        (
            "return nn.Linear(4, 3)",
            "return net(lambda seen: seen[:1])",
            "the model returned float32 of shape (1, 3), expected floats of shape",
        ),
        ("return nn.Linear(4, 3)", "import sys\n        return net(lambda seen: sys.exit(2))", "SystemExit: 2"),
        ("return nn.Linear(4, 3)", "return nn.Linear(4, bias)", "NameError: name 'bias' is not defined"),
        ("return nn.Linear(4, 3)", "return nn.Sequential(nn.Linear(4, 3), nn.Bilinear(3, 3, 3))", "Bilinear"),
    ],
)
def test_a_plugin_that_breaks_is_an_error_of_ours_that_names_it(
    broken: Callable[[str], None], rubric: Write, old: str, new: str, said: str
) -> None:
    assert old in WORKING
    broken(WORKING.replace(old, new, 1))
    weights = nn.Sequential(nn.Linear(4, 3), nn.Bilinear(3, 3, 3)).state_dict() if "Bilinear" in new else nn.Linear(4, 3).state_dict()
    code, message = failed(outcome_of(weights, rubric('["broken"]')))
    assert code == "internal-error"
    assert message.startswith("the plugin 'broken' of broken-thing 2.0 failed: ")
    assert said in message


def test_weights_that_a_plugin_finds_something_wrong_with_are_the_submitters_all_the_same(
    broken: Callable[..., None], rubric: Write
) -> None:
    broken(
        WORKING.replace("return []", 'from fifomark.families.checks import misfit\n        return [misfit(layers(match), "is wrong")]')
        + "\ndef layers(match):\n    return match.layers.leaves[0].weight\n"
    )
    assert refused(outcome_of(nn.Linear(4, 3), rubric('["broken"]'))) == [("FM505", "weight (3, 4): is wrong")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 'abc'", "TypeError: it gives a str, expected one real number"),
        ("return outputs", "TypeError: it gives a Tensor of shape"),
        ("raise ValueError('boom')", "ValueError: boom"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return float(outputs, labels)", "(it is called with outputs, labels)"),
    ],
)
def test_a_metric_that_breaks_is_told_by_name(broken: Callable[..., None], write_rubric: Write, body: str, said: str) -> None:
    broken(f"def measure(outputs, labels):\n    {body}\n", group="metrics", name="measure")
    code, message = failed(outcome_of(nn.Linear(4, 3), write_rubric(METRIC.format("plugin:broken"))))
    assert code == "internal-error"
    assert message.startswith("the plugin 'broken' of broken-thing 2.0 failed: ")
    assert said in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('return Match("broken"', 'raise ValueError("boom")\n        return Match("broken"'),
        ("return []", 'raise ValueError("boom")'),
        ("return nn.Linear(4, 3)", 'raise ValueError("boom")'),
        ("return nn.Linear(4, 3)", "import sys\n        return net(lambda seen: sys.exit('boom'))"),
    ],
)
def test_of_several_plugins_of_one_package_the_one_that_breaks_is_told(
    broken: Callable[..., None], write_rubric: Write, old: str, new: str
) -> None:
    also = WORKING.replace(old, new, 1) + "def half(outputs, labels):\n    return 0.5\n"
    broken(also, more="[fifomark.metrics]\nother = broken_plugin:half\n")
    folder = write_rubric(METRIC.format("plugin:other"), changes={'["logistic", "mlp"]': '["broken"]'})
    code, message = failed(outcome_of(nn.Linear(4, 3), folder))
    assert code == "internal-error"
    assert message.startswith("the plugin 'broken' of broken-thing 2.0 failed: ")
    assert "boom" in message


METRIC = """
[[metric]]
id = "own"
kind = "{}"
[[criterion]]
id = "loads"
points = 1
check = "loads"
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("return None", "TypeError: it gives NoneType, expected a Dataset of (input, label)"),
        ("return []", "TypeError: it gives a data set without examples"),
        ("return [1, 2]", "TypeError: it gives a data set whose example 0 (from 0) is int, expected (input, label)"),
        ("return (1 / 0 for _ in range(2))", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_data_set_that_breaks_is_told_by_name(broken: Callable[..., None], write_rubric: Write, body: str, said: str) -> None:
    broken(f"def make(path):\n    {body}\n", group="datasets", name="make")
    folder = write_rubric(changes={"[data]\n": '[data]\nfactory = "plugin:broken"\n'})
    assert failed(outcome_of(nn.Linear(4, 3), folder)) == ("internal-error", f"the plugin 'broken' of broken-thing 2.0 failed: {said}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "metrics:own gives a NoneType, expected one real number"),
        ("raise SystemExit(0)", "metrics:own raised SystemExit: 0 (metrics.py, line 2)"),
        ("raise KeyboardInterrupt", "metrics:own raised KeyboardInterrupt (metrics.py, line 2)"),
        ("return outputs", "metrics:own gives a Tensor of shape"),
    ],
)
def test_a_metric_of_the_rubrics_own_is_told_by_file_and_function(write_rubric: Write, body: str, said: str) -> None:
    folder = write_rubric(METRIC.format("metrics:own"))
    (folder / "metrics.py").write_text(f"def own(outputs, labels):\n    {body}\n")
    code, message = failed(outcome_of(nn.Linear(4, 3), folder))
    assert code == "rubric-error"
    assert f"{folder}/rubric.toml: metric.own.kind: " in message
    assert said in message


@pytest.mark.parametrize(
    ("where", "code"), [("raise SystemExit(3)", "rubric-error"), ("if len(x) > 2: raise SystemExit(3)", "internal-error")]
)
def test_a_model_of_the_rubrics_own_that_ends_the_program_is_told_by_file_and_line(write_rubric: Write, where: str, code: str) -> None:
    """Whether it does so when it is tried on two examples, or only later."""
    folder = write_rubric(changes={'families = ["logistic", "mlp"]': 'factory = "models:Net"'})
    lines = (
        "from torch import nn",
        "class Net(nn.Linear):",
        "    def __init__(self): super().__init__(4, 3)",
        "    def forward(self, x):",
        f"        {where}",
        "        return super().forward(x)",
    )
    (folder / "models.py").write_text("\n".join(lines))
    ended = failed(outcome_of({"weight": torch.ones(3, 4), "bias": torch.zeros(3)}, folder))
    assert ended[0] == code
    assert "SystemExit: 3 (models.py, line 5)" in ended[1]


def test_a_working_one_goes_before_one_of_ours_that_fits_as_well(broken: Callable[[str], None], rubric: Write) -> None:
    """Else the ones above would prove nothing."""
    broken(WORKING)
    assert evaluated(outcome_of(nn.Linear(4, 3), rubric('["broken"]'))).source == "family broken"


def test_a_plugin_that_breaks_while_a_file_is_sanitized_is_no_fault_of_the_file(
    broken: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(WORKING.replace('return Match("broken"', 'raise ValueError("judged")\n        return Match("broken"'))
    outcome = sanitizing(tmp_path, ("broken",))
    assert isinstance(outcome, Failed)
    assert outcome.reason.blame == "operator"
    assert outcome.reason.message == "the plugin 'broken' of broken-thing 2.0 failed: ValueError: judged"
    assert "Traceback" in capsys.readouterr().err


def test_a_plugin_that_ends_the_program_while_a_file_is_sanitized_ends_none_of_ours(broken: Callable[..., None], tmp_path: Path) -> None:
    broken(WORKING.replace('return Match("broken"', 'raise SystemExit\n        return Match("broken"'))
    outcome = sanitizing(tmp_path, ("broken",))
    assert isinstance(outcome, Failed)
    assert outcome.reason.message == "the plugin 'broken' of broken-thing 2.0 failed: SystemExit"


def test_one_name_of_two_distributions_is_nobodys(broken: Callable[..., None], rubric: Write) -> None:
    broken(WORKING)
    broken(WORKING, "broken-other")
    with pytest.raises(ConfigError, match="'broken' is a plugin of broken-other and broken-thing"):
        load_rubric(rubric('["broken"]'))


def test_it_goes_before_none_that_fits_better_nor_takes_its_name(broken: Callable[[str], None], rubric: Write) -> None:
    broken(WORKING.replace("1.0", "0.8"))
    assert evaluated(outcome_of(nn.Linear(4, 3), rubric('["broken", "logistic"]'))).source == "family logistic"
    assert registry.with_plugins(("mlp", "cnn")) is registry.FAMILIES
