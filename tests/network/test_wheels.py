"""Real files, as packages of the registry ship them: downloaded, read, and compared with what torch makes of them where it will.

Run by `scripts/test -m network`.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fifomark.core.findings import Verdict
from fifomark.sanitizer.sanitizer import Sanitizer

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


class Shipped(NamedTuple):
    """A file in a wheel, and what it is: `tensors` of the clean file, 0 where it is refused; whether torch's careful loader takes it."""

    path: str
    verdict: Verdict
    container: str
    form: str | None
    tensors: int
    careful: bool = True


CLEAN, FLAGGED, INVALID = Verdict.CLEAN, Verdict.FLAGGED, Verdict.INVALID
_ALBERT = "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"

WHEELS: dict[str, list[Shipped]] = {
    "lpips==0.1.4": [
        Shipped(f"lpips/weights/v0.{version}/{name}.pth", CLEAN, "legacy", "state_dict", tensors)
        for version in (0, 1)
        for name, tensors in (("alex", 5), ("squeeze", 7), ("vgg", 5))
    ],
    "facenet-pytorch==2.6.0": [
        Shipped(f"facenet_pytorch/data/{name}.pt", CLEAN, "legacy", "state_dict", tensors)
        for name, tensors in (("onet", 21), ("pnet", 13), ("rnet", 16))
    ],
    "attacut==1.0.6": [
        Shipped(f"attacut/artifacts/attacut-{name}/model.pth", CLEAN, "legacy", "state_dict", tensors)
        for name, tensors in (("c", 11), ("sc", 27))
    ],
    "Resemblyzer==0.1.4": [Shipped("resemblyzer/pretrained.pt", CLEAN, "legacy", "checkpoint", 16)],
    "gssc==0.0.9": [
        Shipped("gssc/nets/gru_net_v1.pt", FLAGGED, "zip", "module", 44, careful=False),
        Shipped("gssc/nets/sig_net_v1.pt", FLAGGED, "zip", "module", 420, careful=False),
    ],
    "silero-vad==6.2.3": [Shipped("silero_vad/data/silero_vad.jit", FLAGGED, "torchscript", "torchscript", 32, careful=False)],
    "rxnmapper==0.4.3": [
        Shipped(f"{_ALBERT}/pytorch_model.bin", CLEAN, "legacy", "state_dict", 32),
        Shipped(f"{_ALBERT}/training_args.bin", INVALID, "legacy", None, 0, careful=False),  # a Namespace, and no weights
    ],
    "mne-icalabel==0.10.0": [Shipped("mne_icalabel/iclabel/network/assets/ICLabelNet.pt", CLEAN, "zip", "state_dict", 40)],
    "whisperx==3.8.6": [Shipped("whisperx/assets/pytorch_model.bin", FLAGGED, "zip", "checkpoint", 54, careful=False)],
}
ENDINGS = (".pt", ".pth", ".bin", ".jit", ".ckpt")


@pytest.fixture(scope="module")
def sanitizer() -> Iterator[Sanitizer]:
    with Sanitizer() as one:
        yield one


def downloaded(requirement: str, folder: Path) -> Path:
    """The wheel of `requirement`, as it lies in the registry: nothing is installed and none of its code runs."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), requirement], check=True, timeout=600)
    (wheel,) = folder.glob("*.whl")
    return wheel


def state_dicts(thing: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Every dict of tensors in what torch loaded, the outermost first."""
    if isinstance(thing, dict):
        if thing and all(isinstance(value, torch.Tensor) for value in thing.values()):
            yield dict(thing)
        for value in thing.values():
            yield from state_dicts(value)


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def assert_alike(weights: dict[str, torch.Tensor], original: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = torch.load(original, weights_only=True, map_location="cpu")
    alike = [one for one in state_dicts(loaded) if list(one) == list(weights)]
    assert alike, "torch sees no such dict"
    assert [
        name for name in weights if weights[name].dtype is not alike[0][name].dtype or bits(weights[name]) != bits(alike[0][name])
    ] == []


@pytest.mark.parametrize("requirement", WHEELS)
def test_every_torch_file_of_a_wheel_is_read_for_what_it_is(requirement: str, sanitizer: Sanitizer, tmp_path: Path) -> None:
    with zipfile.ZipFile(downloaded(requirement, tmp_path)) as wheel:
        shipped = [name for name in wheel.namelist() if name.endswith(ENDINGS)]
        assert sorted(shipped) == sorted(file.path for file in WHEELS[requirement])
        for file in WHEELS[requirement]:
            original, clean = Path(wheel.extract(file.path, tmp_path)), tmp_path / "clean.pt"
            seen = sanitizer.inspect(original, name="x.pt", clean_to=str(clean))
            tensors = len(seen.weights.tensors) if seen.weights is not None else 0
            assert (seen.verdict, seen.container, seen.form, tensors) == (file.verdict, file.container, file.form, file.tensors)
            if file.careful:
                assert_alike(torch.load(clean, weights_only=True, mmap=True), original)
