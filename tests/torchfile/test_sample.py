from __future__ import annotations

import io

import torch
from describing import codes, described

from fifomark.torchfile.sample import sample


def test_the_sample_is_an_honest_file_for_us_and_for_torch() -> None:
    seen = described(sample())
    assert (seen.container, codes(seen), [entry.name for entry in seen.groups[0].entries], seen.members) == ("zip", [], ["weight"], ())
    assert torch.equal(torch.load(io.BytesIO(sample()), weights_only=True)["weight"], torch.zeros(2, 2))
