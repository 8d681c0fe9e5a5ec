"""Whatever torch.save makes of plain tensors is let through, and comes out bit for bit."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing.oracle import Oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from fifomark.core.inspection import Inspection
from fifomark.sanitizer.sanitizer import Sanitizer
from fifomark.torchfile.dtypes import DTYPES

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(("fc.weight", "fc.bias", "module.a", "module.b"))


@st.composite
def bases(draw: st.DrawFn, legacy: bool) -> torch.Tensor:
    """A storage, as a flat tensor; of small numbers, so that there is no NaN in it."""
    name = draw(st.sampled_from([name for name, dtype in DTYPES.items() if (dtype.storage or not legacy) and "float4" not in name]))
    values = draw(st.lists(st.integers(0, 1 if name == "bool" else 15), max_size=24))
    return torch.tensor(values, dtype=torch.float32).to(getattr(torch, name))


@st.composite
def views(draw: st.DrawFn, base: torch.Tensor) -> torch.Tensor:
    """Any view that lies in the storage: transposed, stepping, overlapping, expanded, of one element or none."""
    offset = draw(st.integers(0, len(base)))
    if offset == len(base):
        shape = draw(st.lists(st.integers(0, 3), max_size=3).filter(lambda sizes: 0 in sizes))
        return base.as_strided(shape, [1] * len(shape), offset) if shape else torch.zeros((), dtype=base.dtype)
    shape, stride, left = [], [], len(base) - 1 - offset
    for _ in range(draw(st.integers(0, 4))):
        size, step = draw(st.integers(1, 4)), draw(st.integers(0, 6))
        if (size - 1) * step <= left:
            shape, stride, left = [*shape, size], [*stride, step], left - (size - 1) * step
    return base.as_strided(shape, stride, offset)


@st.composite
def saved(draw: st.DrawFn) -> bytes:
    """A state_dict with views of a few storages, ties among them, or a checkpoint that holds one; in any format and protocol."""
    legacy = draw(st.booleans())
    storages = draw(st.lists(bases(legacy), min_size=1, max_size=4))
    shown = draw(st.lists(st.sampled_from(storages).flatmap(views), min_size=1, max_size=6))
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    thing: Any = {name: shown[i % len(shown)] for i, name in enumerate(names)}
    if draw(st.booleans()):
        thing = {"epoch": 3, draw(st.sampled_from(("state_dict", "model", "anything"))): thing, "args": {"lr": 0.1}}
    out = io.BytesIO()
    protocol = draw(st.integers(2, 5))
    torch.save(thing, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    folder = tmp_path_factory.mktemp("oracle")
    one = Oracle(folder, folder / "marker", lambda stage: None)
    yield one
    one.close()


@given(body=saved())
@settings(max_examples=250)
def test_it_comes_through_as_torch_reads_it(oracle: Oracle, body: bytes) -> None:
    seen = oracle.check(body, hostile=False, thoroughly=False)
    assert seen.clean is not None, seen.findings


def cleaned(sanitizer: Sanitizer, body: bytes, path: Path) -> tuple[bytes, Inspection]:
    path.write_bytes(body)
    seen = sanitizer.inspect(path, clean_to=f"{path}.clean")
    return Path(f"{path}.clean").read_bytes(), seen


@given(body=saved())
@settings(max_examples=60)
def test_a_clean_file_is_its_own_clean_file(body: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("twice") / "a.pt"
    with Sanitizer() as sanitizer:
        once, first = cleaned(sanitizer, body, path)
        twice, second = cleaned(sanitizer, once, path)
    assert first.weights is not None
    assert second.weights is not None
    assert (second.verdict.refuses, second.container, second.form) == (False, "zip", "state_dict")
    if not first.findings:  # the names may lose a prefix that they had twice
        assert twice == once
        assert first.clean is not None
        assert first.clean.sha256 == hashlib.sha256(once).hexdigest()
