from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fifomark.core.errors import ConfigError
from fifomark.marking.data import Data, load_data
from fifomark.marking.data.hashing import sha256_of
from fifomark.marking.rubric import load_rubric

# Its metric is of the model alone: what is usual for a task is not what these tests are about.
RUBRIC = """
[rubric]
schema = "fifomark.rubric/1"
id = "toy"
[task]
{task}
[model]
families = ["mlp"]
[input]
{input}
[data]
path = "{path}"
sha256 = "{sha256}"
{data}
[[metric]]
id = "parameters"
kind = "parameters"
[[criterion]]
id = "loads"
title = "Loads"
points = 1
check = "loads"
"""
Load = Callable[..., Data]
Wrong = Callable[..., ConfigError]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a rubric beside the data that a test wrote into tmp_path, and loads that."""

    def load(path: str, *, task: str = "num_classes = 3", input: str = "shape = [2]", data: str = "") -> Data:
        text = RUBRIC.format(path=path, sha256=sha256_of(tmp_path / path), task=task, input=input, data=data)
        (tmp_path / "rubric.toml").write_text(text)
        return load_data(tmp_path, load_rubric(tmp_path))

    return load


@pytest.fixture
def wrong(load: Load) -> Wrong:
    """The ConfigError of what `load` cannot load; it always names the rubric."""

    def wrong(path: str, **said: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load(path, **said)
        assert "rubric.toml" in caught.value.file
        return caught.value

    return wrong
