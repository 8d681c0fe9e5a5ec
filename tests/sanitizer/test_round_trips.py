"""What torch saves, in every form, and what torch loads again from the clean file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import builders
import pytest
import torch
from judged import codes
from loading import loaded
from torch import nn

from fifomark.core.findings import Verdict
from fifomark.core.inspection import Inspection
from fifomark.marking.fingerprint import fingerprint
from fifomark.sanitizer.sanitizer import Sanitizer
from fifomark.torchfile.dtypes import DTYPES


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    bits = [t.detach().contiguous().reshape(-1).view(torch.uint8) if t.numel() else torch.empty(0) for t in (one, other)]
    return one.dtype is other.dtype and one.shape == other.shape and torch.equal(*bits)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


# Round trips


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_comes_through_bit_for_bit(inspect: Callable[..., Inspection], clean: Path, zipped: bool) -> None:
    weights = net().state_dict()
    seen = inspect(weights, save={"_use_new_zipfile_serialization": zipped})
    assert (seen.verdict, seen.container, seen.form, seen.findings) == (Verdict.CLEAN, "zip" if zipped else "legacy", "state_dict", ())
    assert seen.family is not None
    assert seen.family.name == "mlp"
    back = loaded(clean)
    assert list(back) == list(weights)
    assert all(same(back[name], weights[name]) for name in weights)


# The legacy format has no storage for the newer dtypes.
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(
    ("name", "zipped"), [(n, zipped) for n, dtype in DTYPES.items() for zipped in (True, False) if zipped or dtype.storage]
)
def test_every_dtype_comes_through(inspect: Callable[..., Inspection], clean: Path, name: str, zipped: bool) -> None:
    dtype = getattr(torch, name)
    bits = torch.arange(1, 13, dtype=torch.uint8)
    number = bits.view(dtype) if "float4" in name else bits.to(dtype)
    tensors = {"a.weight": number.reshape(3, 4), "b.weight": number[:1].reshape(())}
    seen = inspect(tensors, save={"_use_new_zipfile_serialization": zipped})
    assert seen.verdict is Verdict.CLEAN
    assert all(same(loaded(clean)[key], value) for key, value in tensors.items())


def test_views_of_any_kind_come_through_as_plain_tensors(inspect: Callable[..., Inspection], clean: Path) -> None:
    base = torch.randn(6, 8)
    tensors = {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "one": torch.ones(1),
        "transposed": base.t(),
        "slice": base[1:4, 2:5],
        "steps": base[:, ::3],
        "last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "expanded": torch.randn(1, 4).expand(5, 4),
        "parameter": nn.Parameter(base),
    }
    seen = inspect(tensors)
    assert (seen.verdict, codes(seen)) == (Verdict.CLEAN, ["FM302"])
    back = loaded(clean)
    assert all(same(back[name], tensors[name]) for name in tensors)
    assert all(tensor.is_contiguous() and tensor.storage_offset() == 0 for tensor in back.values())
    assert back["slice"].untyped_storage().nbytes() == 36


def test_ties_stay_ties_and_count_once(inspect: Callable[..., Inspection], clean: Path) -> None:
    weight = torch.randn(10, 4)
    seen = inspect({"emb.weight": weight, "head.weight": weight, "copy.weight": weight.clone(), "part.weight": weight[:5]})
    back = loaded(clean)
    assert back["emb.weight"].data_ptr() == back["head.weight"].data_ptr() != back["copy.weight"].data_ptr()
    assert seen.weights is not None
    assert (seen.weights.parameters, seen.weights.bytes) == (100, 400)
    assert [tensor.tied_to for tensor in seen.weights.tensors] == [None, "emb.weight", None, None]


def test_compressed_storages_come_through(inspect: Callable[..., Inspection], clean: Path) -> None:
    data = builders.floats(12)
    body = builders.ordered_dict(
        *((builders.text(name), builders.tensor("0", (3, 2), offset=i * 6, numel=12)) for i, name in enumerate("ab"))
    )
    seen = inspect(builders.archive(builders.pickled(body), {"0": data}, deflate=True))
    assert seen.verdict is Verdict.CLEAN
    assert b"".join(tensor.numpy().tobytes() for tensor in loaded(clean).values()) == data


def test_the_clean_file_is_the_same_each_time_and_of_itself(sanitizer: Sanitizer, inspect: Callable[..., Inspection], clean: Path) -> None:
    weights = net().state_dict()
    first, body = inspect(weights), clean.read_bytes()
    assert (inspect(weights).clean, clean.read_bytes()) == (first.clean, body)
    again = sanitizer.inspect(clean, clean_to=str(clean.with_name("again.pt")))
    assert clean.with_name("again.pt").read_bytes() == body
    assert (again.verdict, again.findings, again.weights) == (Verdict.CLEAN, (), first.weights)


def test_the_hashes_are_of_what_they_say(inspect: Callable[..., Inspection], tmp_path: Path, clean: Path) -> None:
    seen = inspect({"b": torch.zeros(2), "a": torch.ones(3, 1, dtype=torch.int64)})
    assert seen.clean is not None
    assert seen.weights is not None
    files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "a.pt", clean)}
    assert (seen.sha256, seen.size) == (files[tmp_path / "a.pt"], (tmp_path / "a.pt").stat().st_size)
    assert (seen.clean.sha256, seen.clean.size) == (files[clean], clean.stat().st_size)


def test_weights_are_the_same_weights_in_any_container(inspect: Callable[..., Inspection], clean: Path) -> None:
    weights = net().state_dict()
    kept = {key: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for key, tensor in reversed(weights.items())}
    legacy = {"_use_new_zipfile_serialization": False}
    seen = [
        (inspect(what, save=save).sha256, fingerprint(loaded(clean)).exact)
        for what, save in ((weights, {}), (weights, legacy), ({"model": weights}, {}), (kept, {}))
    ]
    assert len({file for file, _ in seen}) == 4
    assert {exact for _, exact in seen} == {fingerprint(weights).exact}


def test_without_a_clean_file_the_values_are_checked_all_the_same(sanitizer: Sanitizer, tmp_path: Path) -> None:
    torch.save({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "a.pt")
    seen = sanitizer.inspect(tmp_path / "a.pt")
    assert (seen.verdict, codes(seen), seen.clean) == (Verdict.INVALID, ["FM401"], None)
    assert seen.weights is not None
    assert seen.weights.tensors[0].nan == 1


# Forms


def test_a_checkpoint_gives_its_weights_and_leaves_the_rest(inspect: Callable[..., Inspection], clean: Path) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model.layers(torch.randn(2, 64)).sum().backward()
    optimizer.step()
    seen = inspect(
        {"epoch": 3, "loss": torch.tensor(0.5), "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    )
    assert (seen.verdict, seen.form, codes(seen)) == (Verdict.CLEAN, "checkpoint", ["FM206"])
    assert list(loaded(clean)) == list(model.state_dict())


def test_a_whole_module_gives_its_state_dict(inspect: Callable[..., Inspection], clean: Path) -> None:
    model = net()
    seen = inspect(model)
    assert (seen.verdict, seen.form, codes(seen)) == (Verdict.FLAGGED, "module", ["FM203"])
    assert {name: tensor.tolist() for name, tensor in loaded(clean).items()} == {n: t.tolist() for n, t in model.state_dict().items()}


def test_a_module_of_stock_layers_is_clean(inspect: Callable[..., Inspection]) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, activation="gelu", batch_first=True)
    seen = inspect(nn.DataParallel(nn.Sequential(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.LSTM(8, 4))))
    assert (seen.verdict, seen.form, codes(seen)) == (Verdict.CLEAN, "module", ["FM501"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_frozen_script_is_told_where_its_weights_went(inspect: Callable[..., Inspection], tmp_path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval())), tmp_path / "frozen.pt")
    seen = inspect((tmp_path / "frozen.pt").read_bytes())
    assert (seen.verdict, codes(seen)[0]) == (Verdict.INVALID, "FM305")
    assert "torch.jit.freeze" in seen.findings[0].message
    assert "before it was frozen" in seen.findings[0].advice


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_gives_its_weights_and_loses_its_code(inspect: Callable[..., Inspection], tmp_path: Path, clean: Path) -> None:
    model = nn.Sequential(nn.Linear(64, 10))
    torch.jit.script(model).save(tmp_path / "script.pt")
    seen = inspect((tmp_path / "script.pt").read_bytes())
    assert (seen.verdict, seen.container, seen.form, codes(seen)) == (Verdict.FLAGGED, "torchscript", "torchscript", ["FM204"])
    assert all(same(loaded(clean)[name], tensor) for name, tensor in model.state_dict().items())


def test_an_optimizer_alone_is_invalid(inspect: Callable[..., Inspection]) -> None:
    seen = inspect(torch.optim.SGD(net().parameters(), lr=0.1, momentum=0.9).state_dict())
    assert (seen.verdict, codes(seen), seen.form) == (Verdict.INVALID, ["FM306"], None)


def test_prefixes_are_stripped_from_the_clean_file(inspect: Callable[..., Inspection], clean: Path) -> None:
    seen = inspect({f"module._orig_mod.{name}": tensor for name, tensor in net().state_dict().items()})
    assert (seen.verdict, codes(seen)) == (Verdict.CLEAN, ["FM501"])
    assert list(loaded(clean)) == list(net().state_dict())
