"""The soak finds nothing in its first mutants, and finds what is put before it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import builders as b
import pytest
import torch
from describing import described
from fuzzing.oracle import Oracle, Wrong, compare

import fifomark

ROOT = Path(__file__).parents[2]


def soaked(*arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "tests"), str(Path(fifomark.__file__).parents[1])])
    code = f"import os, sys\nfrom fuzzing import soak\n{program}\nsys.exit(soak.main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=250)


def test_nothing_is_wrong_with_the_first_mutants(tmp_path: Path) -> None:
    done = soaked("--count", "1500", "--seed", "ci", "--keep", str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (0, []), done.stderr
    assert "fuzz: 1,500 mutants" in done.stderr


def test_a_process_that_dies_is_told_with_the_mutant_and_replaced(tmp_path: Path) -> None:
    dies = """
def work(seed, numbers, folder, answers, board):
    for number in numbers:
        board.write(number, "dying")
        number == 2 and os.kill(os.getpid(), 11)
        answers.send_bytes(f'[{number}, "clean", [], null]'.encode())
soak.work = work
"""
    done = soaked("--count", "5", "--keep", str(tmp_path), program=dies)
    assert done.returncode == 1
    assert "mutant 2: the process died while dying (exit code -11)" in done.stderr
    assert "--first 2 --count 1" in done.stderr
    assert "5 mutants" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["0-2.pt"]


def test_a_process_that_hangs_is_told_with_the_mutant_and_replaced(tmp_path: Path) -> None:
    hangs = """
import time
def work(seed, numbers, folder, answers, board):
    for number in numbers:
        board.write(number, "waiting")
        number == 1 and time.sleep(100)
        answers.send_bytes(f'[{number}, "clean", [], null]'.encode())
soak.work, soak.HANG = work, 1.0
"""
    done = soaked("--count", "3", "--keep", str(tmp_path), program=hangs)
    assert done.returncode == 1
    assert "mutant 1: it hangs while waiting" in done.stderr
    assert "3 mutants" in done.stderr


# What the oracle must not let pass

PICKLE = b.pickled(b.dict_of((b.text("a"), b.tensor("0", (2,))), (b.text("b"), b.tensor("1", (2,)))))
BODY = b.archive(PICKLE, {"0": b.floats(2), "1": b.floats(2, 1)})


def weights() -> dict[str, torch.Tensor]:
    return {name: torch.frombuffer(bytearray(b.floats(2, seed)), dtype=torch.float32) for seed, name in enumerate("ab")}


@pytest.mark.parametrize(
    "other",
    [
        {**weights(), "b": weights()["a"]},
        {**weights(), "b": weights()["b"].view(torch.int32)},
        {**weights(), "b": weights()["b"].reshape(1, 2)},
        {"b": weights()["b"], "a": weights()["a"]},
        {**weights(), "c": torch.ones(1)},
        {"a": weights()["a"]},
        [weights()],
    ],
    ids=["other numbers", "another type", "another shape", "another order", "one more", "one less", "no mapping"],
)
def test_any_difference_between_torch_and_us_is_wrong(other: object) -> None:
    (group,) = described(BODY).groups
    compare(weights(), weights(), group, group.entries)
    with pytest.raises(Wrong):
        compare(weights(), other, group, group.entries)


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Oracle]:
    one = Oracle(tmp_path, tmp_path / "marker", lambda stage: None)
    yield one
    one.close()


def test_a_call_that_is_let_through_is_wrong(oracle: Oracle) -> None:
    assert not oracle.check(BODY, hostile=False, thoroughly=True).verdict.refuses
    with pytest.raises(Wrong, match="holds a call"):
        oracle.check(BODY, hostile=True, thoroughly=False)


def test_a_payload_that_has_run_is_wrong(oracle: Oracle, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    with pytest.raises(Wrong, match="payload has run"):
        oracle.check(BODY, hostile=False, thoroughly=False)


def test_an_exception_of_our_own_parser_is_wrong_with_its_place(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: object) -> bool:
        raise KeyError("ours")

    monkeypatch.setattr("fifomark.torchfile.describe.is_module", broken)
    with pytest.raises(Wrong, match=r"our own code failed.*KeyError at test_soak.py:\d+"):
        oracle.check(BODY, hostile=False, thoroughly=False)


def test_a_server_that_was_lost_is_wrong(oracle: Oracle) -> None:
    oracle._sandboxed.close()
    with pytest.raises(Wrong, match="writer died"):
        oracle.check(BODY, hostile=False, thoroughly=True)
