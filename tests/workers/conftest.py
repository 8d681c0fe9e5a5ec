from __future__ import annotations

from collections.abc import Iterator

import pytest
from pool_bench import CPU, GPU, obey

from fifomark.workers.local import LocalPool


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    made = LocalPool(obey, [CPU, GPU])
    yield made
    made.close()
