"""Honest files of every shape: none is refused, and their weights come out bit for bit; what cannot be read is refused by name."""

from __future__ import annotations

import enum
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import honest
import pytest
import torch
from judged import codes
from loading import loaded
from torch import nn

from fifomark.core.findings import Verdict
from fifomark.core.inspection import Inspection

Inspect = Callable[..., Inspection]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    bits = [t.detach().contiguous().reshape(-1).view(torch.uint8) if t.numel() else torch.empty(0) for t in (one, other)]
    return one.dtype is other.dtype and one.shape == other.shape and torch.equal(*bits)


def assert_weights(seen: Inspection, clean: Path, expected: honest.Weights) -> None:
    assert seen.verdict in (Verdict.CLEAN, Verdict.FLAGGED), [(finding.code, finding.message) for finding in seen.findings]
    back = loaded(clean)
    assert list(back) == list(expected)
    assert [name for name in expected if not same(back[name], expected[name])] == []


@pytest.mark.parametrize("name", honest.SHAPES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_an_honest_file_passes_with_its_weights(inspect: Inspect, clean: Path, name: str, zipped: bool) -> None:
    if not zipped and name in honest.NEWER:
        return
    thing, expected = honest.SHAPES[name]()
    assert_weights(inspect(honest.saved(thing, zipped=zipped)), clean, expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "name",
    [
        "an OrderedDict as state_dict() returns it",
        "a whole module of a class of one's own",
        "a whole module of stock layers",
        "a whole module that keeps functions of torch as attributes",
        "numbers, times, paths and settings beside the weights",
        "weights beside optimizer, scheduler, scaler and random states",
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_protocol_of_pickle_passes(inspect: Inspect, clean: Path, name: str, protocol: int, zipped: bool) -> None:
    thing, expected = honest.SHAPES[name]()
    assert_weights(inspect(honest.saved(thing, zipped=zipped, protocol=protocol)), clean, expected)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_saved_on_a_gpu_passes(inspect: Inspect, clean: Path, zipped: bool) -> None:
    with mock.patch("torch.serialization.location_tag", return_value="cuda:0"):
        body = honest.saved(honest.plain(), zipped=zipped)
    assert b"cuda:0" in body
    assert_weights(inspect(body), clean, honest.plain())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_module_of_a_script_of_ones_own_passes_and_is_flagged(inspect: Inspect, clean: Path, zipped: bool) -> None:
    with (
        mock.patch.object(honest.Net, "__module__", "__main__"),
        mock.patch.object(sys.modules["__main__"], "Net", honest.Net, create=True),
    ):
        seen = inspect(honest.saved(honest.net(), zipped=zipped))
    assert_weights(seen, clean, honest.plain())
    assert (seen.verdict, seen.findings[0].code) == (Verdict.FLAGGED, "FM203")
    assert "__main__.Net" in seen.findings[0].message


STRANGERS = (
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata", "omegaconf.nodes.AnyNode"),
    *("easydict.EasyDict", "yacs.config.CfgNode", "pytorch_lightning.utilities.parsing.AttributeDict"),
    *("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "lightning.pytorch.callbacks.early_stopping.EarlyStopping"),
    *("pyannote.audio.core.task.Specifications", "pyannote.audio.core.model.Introspection"),
)


@pytest.mark.parametrize("full_name", STRANGERS)
def test_settings_of_packages_that_are_not_here_are_dropped_and_flagged(inspect: Inspect, clean: Path, full_name: str) -> None:
    cls = honest.living(full_name)
    settings = cls()
    settings.__dict__.update(lr=0.1, names=["a"])
    checkpoint = {"state_dict": honest.prefixed("model."), "pytorch-lightning_version": "1.5.0", "hyper_parameters": settings, cls: 1}
    with honest.homes(cls):
        seen = inspect(honest.saved(checkpoint))
    assert_weights(seen, clean, honest.plain())
    assert (seen.verdict, codes(seen)[:1]) == (Verdict.FLAGGED, ["FM205"])


@pytest.mark.parametrize("pair", honest.EMA_PAIRS)
def test_of_weights_and_their_moving_average_the_plain_ones_are_taken_and_that_is_said(inspect: Inspect, pair: tuple[str, str]) -> None:
    plain, average = sorted(pair, key=lambda key: "ema" in key)
    seen = inspect({average: honest.plain(1), plain: honest.plain()})
    said = [finding for finding in seen.findings if "moving average" in finding.message]
    assert [average in finding.message for finding in said] == [True]


def test_a_moving_average_alone_is_the_model(inspect: Inspect, clean: Path) -> None:
    assert_weights(inspect({"ema_state_dict": honest.plain(), "epoch": 1}), clean, honest.plain())


def test_a_moving_average_of_another_network_does_not_decide(inspect: Inspect) -> None:
    seen = inspect({"discriminator": {"w": torch.ones(2)}, "generator_ema": honest.plain()})
    assert (seen.verdict, codes(seen)) == (Verdict.INVALID, ["FM307"])


@pytest.mark.parametrize("record", [".format_version", ".storage_alignment", "byteorder", ".data/serialization_id", ".something_new"])
def test_metadata_of_other_versions_of_torch_passes(inspect: Inspect, clean: Path, record: str) -> None:
    import builders as b

    pickle = b.pickled(b.ordered_dict((b.text("w"), b.tensor("0", (3,)))))
    more = {} if record == "byteorder" else {f"archive/{record}": b"1"}
    seen = inspect(b.archive(pickle, {"0": b.floats(3)}, extra=more))
    assert (seen.verdict, list(loaded(clean))) == (Verdict.CLEAN, ["w"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_torchscript_passes_with_its_weights(inspect: Inspect, clean: Path, tmp_path: Path, how: str) -> None:
    model = honest.net().eval()
    made = torch.jit.script(model) if how == "scripted" else torch.jit.trace(model, torch.ones(1, 1, 5, 5))
    torch.jit.save(made, tmp_path / "script.pt")
    seen = inspect((tmp_path / "script.pt").read_bytes())
    assert seen.verdict is Verdict.FLAGGED
    assert "_reversed_padding" not in str(seen.findings)  # a convolution's own
    assert all(same(loaded(clean)[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("version", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_rebuilders_of_all_ages_pass(inspect: Inspect, clean: Path, version: str) -> None:
    import builders as b

    data = b.floats(6)
    args = b.tensor("0", (2, 3)).removeprefix(b.name("torch._utils._rebuild_tensor_v2"))
    if version == "_rebuild_tensor":
        args = args.replace(b"\x89" + b.call("collections.OrderedDict"), b"")
    pickle = b.pickled(b.ordered_dict((b.text("w"), b.name(f"torch._utils.{version}") + args)))
    seen = inspect(b.archive(pickle, {"0": data}))
    assert (seen.verdict, loaded(clean)["w"].numpy().tobytes()) == (Verdict.CLEAN, data)


# What is no plain dense tensor, or no weights


class Colour(enum.Enum):
    RED = 1


class Config:
    """An object of a class of one's own that is no module: only modules of unknown classes are excused."""

    lr = 0.1


def lazily(view: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return {"w": view(torch.ones(2, 2, dtype=torch.complex64))}


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def dynamically_quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
        return made


def nested() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def compressed() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(2).to_sparse_csr()


# What is saved → the finding that leads, and a word of its message
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "sparse": (lambda: {"w": torch.eye(2).to_sparse()}, "FM304", "to_dense"),
    "sparse CSR": (lambda: {"w": compressed()}, "FM304", "to_dense"),
    "quantized": (lambda: {"w": quantized()}, "FM304", "dequantize"),
    "nested": (lambda: {"w": nested()}, "FM304", "nested"),
    "meta": (lambda: {"w": torch.ones(2, device="meta")}, "FM304", "meta"),
    "conjugate": (lambda: lazily(torch.conj), "FM304", "resolve_conj"),
    "negative": (lambda: lazily(lambda t: t.conj().imag), "FM304", "resolve_neg"),
    "uninitialized": (lambda: nn.LazyLinear(3).state_dict(), "FM304", "lazy"),
    "dynamically quantized state_dict": (lambda: dynamically_quantized().state_dict(), "FM304", "dequantize"),
    "dynamically quantized module": (dynamically_quantized, "FM201", "quantized"),
    "an optimizer's state": (lambda: honest.trained()[1].state_dict(), "FM306", "optimizer"),
    "an optimizer": (lambda: honest.trained()[1], "FM305", "AdamW"),
    "no weights": (lambda: {"epoch": 3}, "FM305", "epoch"),
    "a list of tensors": (lambda: [torch.ones(2)], "FM305", "list"),
    "two networks": (lambda: {"generator": honest.plain(), "discriminator": honest.plain(1)}, "FM307", "generator, discriminator"),
    "an enum of one's own": (lambda: {**honest.plain(), "c": Colour.RED}, "FM201", "Colour"),
    "an object of one's own": (lambda: {**honest.plain(), "c": Config()}, "FM201", "Config"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:ComplexHalf")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_what_cannot_be_taken_is_refused_by_name_and_with_advice(inspect: Inspect, name: str, zipped: bool) -> None:
    make, code, word = REFUSED[name]
    seen = inspect(honest.saved(make(), zipped=zipped))
    first = seen.findings[0]
    assert (first.code, seen.clean) == (code, None)
    assert word in first.message
    assert first.advice
