"""One sanitizer for all the tests of a module, and a short way to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fifomark.core.inspection import Inspection
from fifomark.sanitizer.sanitizer import Sanitizer


@pytest.fixture(scope="module")
def sanitizer() -> Iterator[Sanitizer]:
    with Sanitizer() as one:
        yield one


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return tmp_path / "clean" / "clean.pt"


@pytest.fixture
def inspect(sanitizer: Sanitizer, tmp_path: Path, clean: Path) -> Callable[..., Inspection]:
    """Inspect bytes, or what torch.save makes of an object; the clean file goes to `clean`."""
    clean.parent.mkdir()

    def inspected(what: Any, **options: Any) -> Inspection:
        path = tmp_path / "a.pt"
        if isinstance(what, bytes):
            path.write_bytes(what)
        else:
            torch.save(what, path, **options.pop("save", {}))
        return sanitizer.inspect(path, clean_to=str(clean), **options)

    return inspected
