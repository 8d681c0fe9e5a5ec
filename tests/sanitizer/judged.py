"""What is asked of an inspection and of the clean file beside it."""

from __future__ import annotations

from pathlib import Path

import torch

from fifomark.core.inspection import Inspection


def codes(seen: Inspection) -> list[str]:
    return [finding.code for finding in seen.findings]


def loaded(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True, mmap=True)
    return weights
