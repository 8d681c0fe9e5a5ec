from __future__ import annotations

from pathlib import Path

import pytest

from fifomark.core.errors import ConfigError
from fifomark.settings import load_settings

HEAD = 'schema = "fifomark.settings/1"\n'


def refused(tmp_path: Path, text: str) -> ConfigError:
    (tmp_path / "fifomark.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path)
    return caught.value


def test_an_unknown_key_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD + "[limits]\nmark_second = 3.0\n")
    assert str(tmp_path / "fifomark.toml") in str(error)
    assert error.key == "limits.mark_second"
    assert "'mark_seconds'" in error.hint


def test_a_wrong_type_shows_what_was_found(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD + 'max_attempts = "three"\n')
    assert error.key == "max_attempts"
    assert "'three'" in error.problem


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('max_attempts = "three"', "expected a whole number, found text 'three'"),
        ("max_attempts = true", "expected a whole number, found true"),
        ("max_attempts = 0", "expected a whole number of at least 1, found 0"),
        ("min_free_bytes = 1.5", "expected a whole number, found 1.5"),
        ("limits = 3", "expected a table, found 3"),
        ('plugins = "rbf"', "expected a list, found text 'rbf'"),
        ("plugins = [3]", "expected text, found 3"),
        ("limits = { mark_seconds = 0 }", "expected a number above 0, found 0"),
    ],
)
def test_a_wrong_value_is_told_in_words_that_are_no_programmers(tmp_path: Path, line: str, says: str) -> None:
    assert refused(tmp_path, f"{HEAD}{line}\n").problem == says


def test_a_choice_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    said = str(refused(tmp_path, HEAD + '[policy]\non_unsafe = "rejekt"\n'))
    assert said.count("rejekt") == 1
    assert said.endswith("policy.on_unsafe: 'rejekt' is not allowed (did you mean 'reject'? allowed: reject, disarm)")


def test_a_wrong_choice_shows_the_nearest_right_one(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD + '[policy]\non_unsafe = "rejekt"\n')
    assert error.key == "policy.on_unsafe"
    assert "'reject'" in error.hint
    assert "'rejekt'" in error.problem


def test_a_value_out_of_range_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, HEAD + "sanitizers = 0\n").key == "sanitizers"


def test_a_missing_schema_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, "slots = 'auto'\n").key == "schema"


def test_what_is_no_toml_says_where(tmp_path: Path) -> None:
    assert "line 2" in str(refused(tmp_path, HEAD + "slots = = 3\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fifomark\.toml.*No such file"):
        load_settings(tmp_path)


def test_an_empty_list_of_slots_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, HEAD + "slots = []\n").key == "slots"
