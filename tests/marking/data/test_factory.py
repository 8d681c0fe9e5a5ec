from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fifomark.core.errors import ConfigError
from fifomark.marking.data import check_data
from fifomark.marking.rubric import load_rubric

DATA = 'factory = "data:make"'
TORCH = """
import torch
from torch.utils.data import Dataset, TensorDataset

class Doubled(Dataset):
    def __init__(self, numbers):
        self.numbers = numbers
    def __len__(self):
        return len(self.numbers)
    def __getitem__(self, i):
        return torch.tensor([self.numbers[i], 2.0 * self.numbers[i]], requires_grad=True), self.numbers[i] % 3

def make(path):
    with open(path) as file:
        return Doubled([int(line) for line in file])
"""


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    (tmp_path / "n.txt").write_text("0\n1\n2\n3\n")
    return tmp_path


def test_a_dataset_of_torch_is_read(load, numbers: Path) -> None:
    (numbers / "data.py").write_text(TORCH)
    (split,) = load("n.txt", data=DATA).splits
    assert split.inputs[0].tolist() == [[0, 0], [1, 2], [2, 4], [3, 6]]
    assert split.labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("[([i, i], i % 3) for i in range(4)]", 1),
        ("(([i, i], i % 3) for i in range(4))", 1),
        ("[(([i, i], [i, 0]), i % 3) for i in range(4)]", 2),
        ("[([i, i], [i, 0], [0, i], i % 3) for i in range(4)]", 3),
        ("__import__('torch.utils.data').utils.data.TensorDataset(torch.ones(4, 2), torch.zeros(4, 2), torch.arange(4) % 3)", 2),
    ],
)
def test_whatever_gives_inputs_and_label_is_a_data_set(load, numbers: Path, body: str, arguments: int) -> None:
    (numbers / "data.py").write_text(f"import torch\ndef make(path):\n    return {body}\n")
    (split,) = load("n.txt", data=DATA).splits
    assert len(split.inputs) == arguments
    assert split.labels.tolist() == [0, 1, 2, 0]


def test_sequences_of_a_data_set_are_filled_up(load, numbers: Path) -> None:
    (numbers / "data.py").write_text("def make(path):\n    return [([1] * (i + 1), i % 3) for i in range(3)]\n")
    (split,) = load("n.txt", data=DATA, input='shape = [3]\ndtype = "int64"\npad = 0').splits
    assert split.inputs[0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_what_a_factory_draws_is_drawn_alike_each_time(load, numbers: Path) -> None:
    (numbers / "data.py").write_text(
        "import random\nimport numpy as np\ndef make(path):\n    return [([random.random(), np.random.rand()], i % 3) for i in range(4)]\n"
    )
    first, again = (load("n.txt", data=DATA + "\nseed = 3").splits[0].inputs[0] for _ in range(2))
    other = load("n.txt", data=DATA + "\nseed = 4").splits[0].inputs[0]
    assert first.tolist() == again.tolist()
    assert (first != other).all()


@pytest.mark.parametrize(
    ("python", "data", "said"),
    [
        (None, DATA, "there is no data.py beside the rubric"),
        ("", 'factory = "dta:make"', "did you mean 'data'"),
        ("def maek(path): ...", DATA, "data.py has no 'make' (did you mean 'maek'?)"),
        ("def make(", DATA, "SyntaxError"),
        ("import nothing_of_this_name", DATA, "ModuleNotFoundError"),
        ("def make(path):\n    return open('nowhere')", DATA, "(data.py, line 2)"),
        ("def make(path):\n    return 5", DATA, "gives int, expected a Dataset"),
        ("def make(path):\n    return []", DATA, "without examples"),
        ("def make(path):\n    return [1, 2]", DATA, "example 0 (from 0) is int, expected (input, label)"),
        ("def make(path):\n    return [([1, 2], 0), ([1, 2], [1, 2], 0)]", DATA, "example 1 (from 0) has 2 inputs, the first has 1"),
        ("def make(path):\n    return [([1, 2], 0), ([1, 2], 3)]", DATA, "example 1 (from 0), label is 3"),
        ("def make(path):\n    return [([1, 2], 0), ([1, float('nan')], 1)]", DATA, "example 1 (from 0), input[1] is nan"),
        ("def make(path):\n    return [([1, 2], None)]", DATA, "object, expected real numbers"),
        ("", DATA + '\nsplit = "which"', "no split to name"),
        ("", DATA + '\nformat = "csv"', "no format"),
        ("", 'factory = "data.make"', 'write "module:name"'),
    ],
)
def test_what_is_wrong_with_a_factory_is_told_with_its_line(wrong, numbers: Path, python: str | None, data: str, said: str) -> None:
    if python is not None:
        (numbers / "data.py").write_text(python)
    error = wrong("n.txt", data=data)
    assert error.key in ("data.factory", "data.label", "data.input")
    assert said in str(error)


def test_the_daemon_checks_the_hash_and_runs_nothing(load, numbers: Path) -> None:
    (numbers / "data.py").write_text(TORCH)
    load("n.txt", data=DATA)
    (numbers / "data.py").write_text("raise SystemExit('run')\ndef make(path): ...")
    rubric = load_rubric(numbers)
    check_data(numbers, rubric)
    (numbers / "n.txt").write_text("5\n")
    with pytest.raises(ConfigError, match=r"data\.sha256: n\.txt: does not match this data"):
        check_data(numbers, rubric)
    (numbers / "data.py").unlink()
    with pytest.raises(ConfigError, match=r"no data\.py beside the rubric"):
        check_data(numbers, rubric)


def test_without_a_factory_the_daemon_checks_everything(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.arange(3))
    load("d.npz")
    (tmp_path / "rubric.toml").write_text((tmp_path / "rubric.toml").read_text().replace("num_classes = 3", "num_classes = 2"))
    with pytest.raises(ConfigError, match=r"y\[2\] is 2"):
        check_data(tmp_path, load_rubric(tmp_path))


def test_the_daemons_check_imports_no_torch(load, numbers: Path) -> None:
    (numbers / "data.py").write_text(TORCH)
    load("n.txt", data=DATA)
    code = (
        "import sys; from fifomark.daemon import rubrics; from fifomark.marking.rubric import load_rubric;"
        f"rubrics.check_data({str(numbers)!r}, load_rubric({str(numbers)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_factory_may_use_what_lies_beside_it(load, numbers: Path) -> None:
    (numbers / "helper.py").write_text("PAIR = [3, 4]\n")
    (numbers / "data.py").write_text("from .helper import PAIR\ndef make(path):\n    return [(PAIR, 0)]\n")
    assert load("n.txt", data=DATA).splits[0].inputs[0].tolist() == [[3, 4]]
