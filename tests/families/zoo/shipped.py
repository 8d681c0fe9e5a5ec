"""The torch files of the wheels that tests/network/test_wheels.py downloads: their names and shapes, as our own reader saw them."""

from __future__ import annotations

import json
from pathlib import Path

from zoo.specimen import Group, Shapes

GROUP = Group()
_FILES: dict[str, dict[str, list[int]]] = json.loads((Path(__file__).parent / "shipped.json").read_text())
_TRUTH = {
    "lpips": "cnn|unknown",  # heads alone: pointwise convolutions on features that are not in the file
    "facenet": "cnn",
    "attacut": "cnn",
    "Resemblyzer": "rnn",
    "gssc/gru": "rnn",
    "gssc/sig": "cnn",
    "silero": "cnn+rnn",
    "rxnmapper": "transformer",
    "mne": "cnn",
    "whisperx": "cnn+rnn|rnn",
}


def _shapes(file: str) -> Shapes:
    return {name: tuple(shape) for name, shape in _FILES[file].items()}


for file in _FILES:
    truth = next(truth for start, truth in _TRUTH.items() if file.startswith(start))
    GROUP.add(truth, **{file: lambda file=file: _shapes(file)})
