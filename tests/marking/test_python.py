"""The Python beside a rubric: found by name, imported anew when it changes, its mistakes the operator's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fifomark.core.errors import ConfigError
from fifomark.marking.python import check_callable, load_callable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rubric.toml").write_text("")
    return tmp_path


def write(folder: Path, body: str, name: str = "models.py") -> None:
    (folder / name).write_text(body)


def load(folder: Path, reference: str = "models:Net") -> object:
    return load_callable(folder, reference, "rubric.toml", "model.factory")()


def problem(folder: Path, reference: str = "models:Net", *, running: bool = True) -> str:
    with pytest.raises(ConfigError) as e:
        (load_callable if running else check_callable)(folder, reference, "rubric.toml", "model.factory")
    assert str(e.value).startswith("rubric.toml: model.factory: ")
    return str(e.value).removeprefix("rubric.toml: model.factory: ")


def test_a_function_is_found_by_its_file_and_name(folder: Path) -> None:
    write(folder, "def Net(): return 7")
    assert load(folder) == 7
    assert "models" not in sys.modules


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("models:Nett", "models.py has no 'Nett' (did you mean 'Net'?)"),
        ("model:Net", "there is no model.py beside the rubric (did you mean 'models'?)"),
        ("models.Net", "'models.Net' names nothing (write \"module:name\", for a name in module.py beside the rubric)"),
        ("../models:Net", "'../models:Net' names nothing"),
        ("models:Net.small", "'models:Net.small' names nothing"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(folder: Path, reference: str, said: str, running: bool) -> None:
    write(folder, "class Net: ...")
    assert problem(folder, reference, running=running).startswith(said)


@pytest.mark.parametrize("running", [True, False])
def test_python_that_is_none_is_told_with_its_line(folder: Path, running: bool) -> None:
    write(folder, "import os\n\ndef Net(:\n")
    assert "SyntaxError" in problem(folder, running=running)
    assert "line 3" in problem(folder, running=running)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x = 1\nNet = undefined", "importing models.py raised NameError: name 'undefined' is not defined (models.py, line 2)"),
        ("import sys\nsys.exit(3)\nNet = 1", "importing models.py raised SystemExit: 3 (models.py, line 2)"),
        ("import helpers\nNet = helpers.Net", "a file beside the rubric is imported with a dot: from .helpers import …"),
        ("Net = 3", "models:Net is of type int, nothing that can be called"),
    ],
)
def test_what_goes_wrong_while_it_is_imported_is_the_operators(folder: Path, body: str, said: str) -> None:
    write(folder, "Net = 0", "helpers.py")
    write(folder, body)
    assert said in problem(folder)


def test_checking_a_name_runs_nothing(folder: Path) -> None:
    write(folder, "raise SystemExit\nif True:\n    def Net(): ...\nfrom torch.nn import Linear as Other")
    check_callable(folder, "models:Net", "rubric.toml", "model.factory")
    check_callable(folder, "models:Other", "rubric.toml", "model.factory")
    write(folder, "from elsewhere import *")
    check_callable(folder, "models:Anything", "rubric.toml", "model.factory")


def test_files_beside_the_rubric_may_import_each_other(folder: Path) -> None:
    write(folder, "def helper(): return 'helped'", "helpers.py")
    write(folder, "from .helpers import helper as Net")
    assert load(folder) == "helped"


def test_a_file_is_imported_once_and_again_when_it_or_what_it_imports_changes(folder: Path) -> None:
    """Also within a second, and at the same size: no compiled file may stand in for it."""
    write(folder, "def value(): return 1", "helpers.py")
    write(folder, "from .helpers import value\nseen = []\ndef Net():\n    seen.append(1)\n    return value(), len(seen)")
    assert [load(folder), load(folder)] == [(1, 1), (1, 2)]
    stamp = (folder / "helpers.py").stat()
    write(folder, "def value(): return 2", "helpers.py")
    os.utime(folder / "helpers.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert load(folder) == (2, 1)
    assert not (folder / "__pycache__").exists()


def test_what_was_imported_before_a_change_is_forgotten(folder: Path) -> None:
    for body in ("def Net(): return 1", "def Net(): return 2", "def Net(): return 3"):
        write(folder, body)
        load(folder)
    name = load_callable(folder, "models:Net", "x", "y").function.__module__.rpartition("_")[0]
    assert sum(module.startswith(name) and module.endswith(".models") for module in sys.modules) == 1


def test_two_rubrics_may_have_files_of_one_name(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write(other, "", "rubric.toml")
    write(folder, "def Net(): return 'one'")
    write(other, "def Net(): return 'other'")
    assert [load(folder), load(other), load(folder)] == ["one", "other", "one"]
