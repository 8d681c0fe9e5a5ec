"""The rubric's own class: filled as a plain script would, its mistakes never a submitter's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from submitting import evaluated, failed, outcome_of, refused
from torch import nn

from fifomark.core.errors import ConfigError
from fifomark.marking.evaluation import Bench
from fifomark.marking.rubric import load_rubric

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.fc1, self.out = nn.Linear(4, hidden), nn.Linear(hidden, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.fc1(x)) * 2)
"""
Write = Callable[..., Path]


@pytest.fixture
def write(write_rubric: Callable[..., Path]) -> Write:
    """A rubric whose models are made by `body`; `model` is its table [model]."""

    def written(body: str = NET, model: str = 'factory = "models:Net"', more: str = "") -> Path:
        folder = write_rubric(more, changes={'families = ["logistic", "mlp"]': model})
        (folder / "models.py").write_text(body)
        return folder

    return written


def net(hidden: int = 8, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.ModuleDict({"fc1": nn.Linear(4, hidden), "out": nn.Linear(hidden, 3)})


def accuracy_by_hand(folder: Path, model: nn.Module) -> float:
    arrays = np.load(folder / "toy.npz")
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    logits = model["out"](torch.tanh(model["fc1"](x)) * 2)  # type: ignore[index]
    return float((logits.argmax(1) == y).double().mean())


@pytest.mark.parametrize("seed", range(3))
def test_a_class_of_the_rubric_gives_the_mark_of_a_plain_script(write: Write, seed: int) -> None:
    folder = write()
    evaluation = evaluated(outcome_of(net(seed=seed), folder))
    assert evaluation.metrics[0].value == accuracy_by_hand(folder, net(seed=seed))
    assert evaluation.source == "factory models:Net"


def test_its_arguments_come_from_the_rubric(write: Write) -> None:
    folder = write(model='factory = "models:Net"\nargs = { hidden = 5 }')
    evaluated(outcome_of(net(5), folder))
    assert refused(outcome_of(net(8), folder)) == [
        ("FM502", "you have fc1.weight (8, 4), the rubric wants fc1.weight (5, 4)"),
        ("FM502", "you have fc1.bias (8,), the rubric wants fc1.bias (5,)"),
        ("FM502", "you have out.weight (3, 8), the rubric wants out.weight (3, 5)"),
    ]


def test_misfits_are_told_before_a_model_is_made(write: Write) -> None:
    """In the words of the task, and at no cost: the constructor is not run for them."""
    folder, bench = (
        write(NET.replace("super().__init__()", "super().__init__()\n        with open(__file__ + '.log', 'a') as f: f.write('x')")),
        Bench(),
    )
    log = folder / "models.py.log"
    evaluated(outcome_of(net(), folder, bench))
    made = len(log.read_text())
    fc3 = {name.replace("out", "fc3"): tensor for name, tensor in net().state_dict().items()}
    assert refused(outcome_of(fc3, folder, bench)) == [
        ("FM502", "2 names begin with 'fc3.' where the rubric wants 'out.': you have fc3.weight (3, 8), the rubric wants out.weight (3, 8)")
    ]
    assert len(log.read_text()) == made
    evaluated(outcome_of(net(), folder, bench))
    assert len(log.read_text()) == made + 1


BUFFERS = NET.replace(
    "def forward(self, x):",
    """    self.register_buffer("scale", torch.full((3,), 2.0), persistent=False)
        self.shift = torch.tensor([0.0, 5.0, 0.0])

    def forward(self, x):""",
).replace("* 2)", ") * self.scale + self.shift")


def test_what_only_the_constructor_makes_is_there(write: Write) -> None:
    """A buffer that is not saved, a tensor that is no buffer: an empty shell filled by names would have neither."""
    folder = write(BUFFERS)
    evaluation = evaluated(outcome_of(net(), folder))
    y = np.load(folder / "toy.npz")["y"]
    assert evaluation.metrics[0].value == (y == 1).mean()


def test_a_constructor_that_needs_real_numbers_is_run_with_them(write: Write) -> None:
    body = NET.replace("def forward", "    assert float(self.out.weight.detach().abs().sum()) > 0\n\n    def forward")
    folder = write(body)
    evaluated(outcome_of(net(), folder))
    assert "the rubric wants" in refused(outcome_of(nn.Linear(4, 3), folder))[0][1]


def test_a_constructor_that_draws_at_random_draws_the_same_for_everyone(write: Write) -> None:
    body = NET.replace(
        "def forward(self, x):",
        """    import random, numpy
        self.noise = torch.randn(3) * 5 + random.random() * torch.tensor([9.0, 0, 0]) + numpy.random.rand() * torch.tensor([0, 9.0, 0])

    def forward(self, x):""",
    ).replace("* 2)", ") + self.noise")
    folder, bench = write(body), Bench()
    first = evaluated(outcome_of(net(), folder, bench)).metrics
    evaluated(outcome_of(net(seed=1), folder, bench))
    assert evaluated(outcome_of(net(), folder, bench)).metrics == first
    assert evaluated(outcome_of(net(), folder)).metrics == first


def test_lazy_layers_take_their_shapes_from_the_file(write: Write) -> None:
    folder = write("from torch import nn\ndef Net():\n    return nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(3))")
    evaluated(outcome_of(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), folder, bench := Bench()))
    evaluated(outcome_of(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), folder, bench))


def test_doubles_are_marked_in_double_where_the_rubric_computes_so(write: Write) -> None:
    folder = write(
        NET.replace("return", "assert x.dtype == self.out.weight.dtype == torch.float64 or self.training\n        return"),
        more='[run]\nprecision = "float64"',
    )
    evaluated(outcome_of(net().double(), folder))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            NET.replace("nn.Linear(4, hidden)", "nn.Linear(4, hid)"),
            "models:Net raised NameError: name 'hid' is not defined (models.py, line 8)",
        ),
        ("def Net():\n    return 3", "models:Net gives a int, expected a torch.nn.Module"),
        ("def Net(hidden):\n    return 3", "1 required positional argument: 'hidden' (there are no model.args)"),
        (NET.replace("nn.Linear(4,", "nn.Linear(5,"), "cannot be run on the rubric's own data: RuntimeError: mat1 and mat2"),
        (NET.replace("torch.tanh", "torche.tanh"), "NameError: name 'torche' is not defined (models.py, line 11)"),
        (NET.replace("nn.Linear(hidden, 3)", "nn.Linear(hidden, 4)"), "returned float32 of shape (2, 4), expected floats of shape (2, 3)"),
        ("Net = nn", "importing models.py raised NameError: name 'nn' is not defined (models.py, line 1)"),
    ],
)
def test_a_mistake_in_the_factory_is_the_rubrics_and_nobody_elses(write: Write, body: str, said: str) -> None:
    folder = write(body)
    code, message = failed(outcome_of(net(), folder))
    assert code == "rubric-error"
    assert f"{folder / 'rubric.toml'}: model.factory: " in message
    assert said in message


def test_weights_that_make_a_sound_factory_fail_stop_nobody_else(write: Write) -> None:
    """A new model runs; that this one does not is of its own weights. As an error of the rubric it would stop the whole queue."""
    folder = write(NET.replace("return self.out", "assert self.out.bias[0] < 100\n        return self.out"))
    weights = net().state_dict() | {"out.bias": torch.full((3,), 1000.0)}
    ((code, message),) = refused(outcome_of(weights, folder))
    assert code == "FM603"
    assert "AssertionError" in message


def test_a_hook_of_the_factory_that_fails_is_ours_for_this_submission_only(write: Write) -> None:
    hook = "    def _load_from_state_dict(self, *args):\n        raise KeyError('gone')\n\n    def forward"
    code, message = failed(outcome_of(net(), write(NET.replace("    def forward", hook))))
    assert code == "internal-error"
    assert "models:Net of the rubric raised KeyError: 'gone' (models.py, line" in message


def test_families_beside_a_factory_say_what_the_weights_may_be(write: Write) -> None:
    folder = write("from torch import nn\ndef Net(): return nn.Linear(4, 3)", 'factory = "models:Net"\nfamilies = ["logistic"]')
    evaluated(outcome_of(nn.Linear(4, 3), folder))
    ((code, message),) = refused(outcome_of(net(), folder))
    assert (code, message) == ("FM503", "the family of this network is mlp; the task asks for logistic")
    ((code, _),) = refused(outcome_of({"alpha": torch.zeros(3)}, folder))
    assert code == "FM504"


def test_too_many_parameters_are_refused_of_a_factory_too(write: Write) -> None:
    ((code, message),) = refused(outcome_of(net(), write(model='factory = "models:Net"\nmax_parameters = 60')))
    assert (code, message) == ("FM506", "67 parameters, where at most 60 are allowed")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "model: says of no model where it comes from"),
        ('factory = "models:Nett"', "model.factory: models.py has no 'Nett' (did you mean 'Net'?)"),
        ('factory = "models:Net"\ntrees = true', "model.trees: and model.factory exclude each other"),
        ('factory = "models:Net"\n[model.mlp]\nactivation = "relu"', "model.mlp: declares facts that nobody asks for"),
        ('families = ["mlp"]\nargs = { hidden = 3 }', "model.args: are given to nothing"),
    ],
)
def test_a_rubric_that_contradicts_itself_is_an_error_when_it_is_read(write: Write, model: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_rubric(write(model=model))
    assert said in str(e.value)


def test_an_argument_that_the_factory_does_not_take_is_told_with_the_nearest(write: Write) -> None:
    code, message = failed(outcome_of(net(), write(NET, 'factory = "models:Net"\nargs = { hiden = 8 }')))
    assert code == "rubric-error"
    assert message.endswith("unexpected keyword argument 'hiden' (did you mean 'hidden'? model.args are hiden)")


def test_a_factory_that_was_mended_is_read_again(write: Write) -> None:
    folder, bench = write(NET.replace("torch.tanh", "torch.tahn")), Bench()
    assert failed(outcome_of(net(), folder, bench))[0] == "rubric-error"
    (folder / "models.py").write_text(NET)
    evaluated(outcome_of(net(), folder, bench))
