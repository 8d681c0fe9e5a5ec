from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "spool")
    yield made
    with contextlib.suppress(Exception):
        made.ledger.close()
