from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fifomark.core.decode import convert
from fifomark.marking.schema import Rubric

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
REST = {
    "rubric": {"schema": "fifomark.rubric/1", "id": "a"},
    "task": {"num_classes": 2},
    "model": {},
    "input": {"shape": [1]},
    "data": {"path": "a"},
}


@pytest.mark.parametrize("table", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_what_the_page_says_to_write_can_be_read(table: str) -> None:
    convert({**REST, **tomllib.loads(table)}, Rubric, "docs/data.md")


def test_the_page_names_every_format() -> None:
    from fifomark.marking.data.loading import _BY_ENDING

    assert all(f"`{ending}`" in TEXT for ending in _BY_ENDING)
