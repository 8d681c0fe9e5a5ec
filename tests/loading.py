"""A clean file loaded by torch, and by the loader that marks it: the same, or the test fails."""

from __future__ import annotations

from pathlib import Path

import torch

from fifomark.marking.clean_file import load_clean


def loaded(path: Path, *, mmap: bool = True) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True, mmap=mmap)
    ours = load_clean(path)
    assert list(ours) == list(weights)
    for name, tensor in weights.items():
        other = ours[name]
        assert (other.dtype, other.shape, other.stride()) == (tensor.dtype, tensor.shape, tensor.stride()), name
        assert bits(other) == bits(tensor), name
    assert _ties(ours) == _ties(weights)
    return weights


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _ties(weights: dict[str, torch.Tensor]) -> list[int]:
    """For each, which of all was the first to lie where it lies."""
    places = [tensor.data_ptr() if tensor.numel() else name for name, tensor in weights.items()]
    return [places.index(place) for place in places]
