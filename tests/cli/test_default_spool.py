from __future__ import annotations

import filecmp
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIFOMARK = str(Path(sys.executable).parent / "fifomark")


def test_the_spool_in_the_repository_is_the_one_that_init_makes(tmp_path: Path) -> None:
    subprocess.run([FIFOMARK, "init", str(tmp_path / "spool")], check=True, capture_output=True)
    for name in ("fifomark.toml", "rubrics/digits/rubric.toml", "rubrics/digits/data/digits.npz", "rubrics/digits/data/README.md"):
        assert filecmp.cmp(ROOT / "spool" / name, tmp_path / "spool" / name, shallow=False), name


def test_every_pin_of_the_requirements_is_exact() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "fifomark @ file://${PWD}"
    assert all("==" in line for line in lines[:-1])
    assert "torch==2.13.0" in lines
