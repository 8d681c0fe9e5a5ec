from __future__ import annotations

from collections.abc import Iterator

import pytest
from pool_bench import CPU, GPU, obey

from fifomark.workers.local import LocalPool


@pytest.fixture(params=[None, "pool_bench"], ids=["spawned", "forked"])
def preload(request: pytest.FixtureRequest) -> str | None:
    """Workers of the CPU are fresh interpreters, or forks of a template."""
    module: str | None = request.param
    return module


@pytest.fixture
def pool(preload: str | None) -> Iterator[LocalPool]:
    made = LocalPool(obey, [CPU, GPU], preload=preload)
    yield made
    made.close()
