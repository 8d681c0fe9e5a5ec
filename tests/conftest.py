from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "benchmarks")]  # the soak's tools, and those that compare scanners
sys.path.insert(0, str(Path(__file__).parent))  # builders.py, for every room's tests


@pytest.fixture(autouse=True)
def _as_torch_comes() -> Iterator[None]:
    """Marking makes torch deterministic for its whole process, and then it cannot fill every dtype: no test sees what ran before."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
