"""Other formats under a .pt name, tensors that hurt their reader later, and places to hide bytes in: nothing of it reaches a clean file."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import builders as b
import pytest
import torch
from torch import nn
from torchscripts import MapsWhenRun, SavesWhenLoaded, run_unguarded, scripted

from fifomark.core.findings import Verdict
from fifomark.core.inspection import Inspection
from fifomark.sanitizer.sanitizer import Sanitizer

DATA = {"0": b.floats(640), "1": b.floats(10, 1)}
PAIRS = ((b.text("weight"), b.tensor("0", (10, 64))), (b.text("bias"), b.tensor("1", (10,))))
HIDDEN = b"HIDDEN PAYLOAD OF SOMEBODY"


@pytest.fixture(scope="module")
def sanitizer() -> Iterator[Sanitizer]:
    with Sanitizer() as one:
        yield one


def inspected(sanitizer: Sanitizer, folder: Path, body: bytes) -> Inspection:
    (folder / "a.pt").write_bytes(body)
    return sanitizer.inspect(folder / "a.pt", clean_to=str(folder / "clean.pt"))


def codes(seen: Inspection) -> list[str]:
    return [finding.code for finding in seen.findings]


# Formats


def old_tar(marker: Path) -> bytes:
    """What torch wrote before 0.2, and reads to this day: a tar of three pickles."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            body = b.pickled(b.touch(marker))
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def packaged(marker: Path) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), torch.package.PackageExporter(out) as exporter:
        warnings.simplefilter("ignore")
        exporter.save_source_string("net", f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
        exporter.save_pickle("model", "model.pkl", torch.ones(2))
    return out.getvalue()


def exported(marker: Path) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), out)
    return out.getvalue()


@pytest.mark.parametrize("build", [old_tar, packaged, exported], ids=["a tar of three pickles", "torch.package", "torch.export"])
def test_what_only_its_own_loader_opens_is_named_and_refused(build: Callable[[Path], bytes], sanitizer: Sanitizer, tmp_path: Path) -> None:
    seen = inspected(sanitizer, tmp_path, build(tmp_path / "RAN"))
    assert (seen.verdict, codes(seen), seen.clean) == (Verdict.INVALID, ["FM106"], None)
    assert any(word in seen.findings[0].message for word in ("tar", "torch.package", "torch.export"))
    assert not (tmp_path / "RAN").exists()


def test_torchscript_that_acts_while_it_is_loaded_is_not_loaded(sanitizer: Sanitizer, tmp_path: Path) -> None:
    marker = tmp_path / "RAN"
    body = scripted(SavesWhenLoaded(str(marker)))
    seen = inspected(sanitizer, tmp_path, body)
    assert (seen.verdict, seen.clean) == (Verdict.UNSAFE, None)
    assert not marker.exists()
    run_unguarded(body, torch.zeros(1, 4))
    assert marker.exists()


def test_torchscript_that_maps_and_writes_files_loses_its_code(sanitizer: Sanitizer, tmp_path: Path) -> None:
    seen = inspected(sanitizer, tmp_path, scripted(MapsWhenRun(str(tmp_path / "RAN"))))
    assert (seen.verdict, codes(seen)[0]) == (Verdict.FLAGGED, "FM204")
    assert list(torch.load(tmp_path / "clean.pt", weights_only=True)) == ["fc.weight", "fc.bias"]
    assert b"from_file" not in (tmp_path / "clean.pt").read_bytes()
    assert not (tmp_path / "RAN").exists()


# Tensors that torch's careful loader takes, and that crash or mislead later


def with_one_more(value: bytes) -> bytes:
    return b.archive(b.pickled(b.ordered_dict(*PAIRS, (b.text("x"), value))), {**DATA, "2": struct.pack("<2q", 1 << 40, 1)})


def sparse(layout: str, *parts: bytes) -> bytes:
    kind = b.call("torch.serialization._get_layout", b.text(layout))
    return b.call("torch._utils._rebuild_sparse_tensor", kind, b.tuple_of(*parts))


INDICES = b.tensor("2", (1, 2), kind="torch.LongStorage")
SIZE = b.tuple_of(b.integer(10))
SCALE = b"G" + struct.pack(">d", float("nan"))
QUANTIZED = (
    b.tuple_of(b.text("storage"), b.name("torch.QInt8Storage"), b.text("2"), b.text("cpu"), b.integer(16)) + b"Q",
    *(b.integer(0), b.tuple_of(b.integer(16)), b.tuple_of(b.integer(1))),
    b.tuple_of(b.name("torch.per_tensor_affine"), SCALE, b.integer(0)),
    *(b"\x89", b.call("collections.OrderedDict")),
)
META = b.name("torch.float32"), b.tuple_of(b.integer(1 << 60)), b.tuple_of(b.integer(1)), b"\x89"


def hooked(hooks: bytes) -> bytes:
    return b.call("torch._utils._rebuild_parameter", PAIRS[0][1], b"\x88", hooks)


TENSORS = {
    "COO whose indices lie outside": (sparse("torch.sparse_coo", INDICES, PAIRS[1][1], SIZE, b"\x88"), "FM304"),
    "CSR whose indices lie outside": (sparse("torch.sparse_csr", INDICES, INDICES, PAIRS[1][1], SIZE), "FM304"),
    "a NaN quantisation scale": (b.call("torch._utils._rebuild_qtensor", *QUANTIZED), "FM304"),
    "a meta tensor of 2^60 elements": (b.call("torch._utils._rebuild_meta_tensor_no_storage", *META), "FM304"),
    "a hook that is allowed to be named": (hooked(b.ordered_dict((b.integer(0), b.name("torch.nn.functional.relu")))), "FM211"),
    "a hook under its old shape": (hooked(b.dict_of((b.integer(0), b.name("torch.nn.functional.relu")))), "FM211"),
    "an element count of 2^62": (b.tensor("2", (2,), kind="torch.LongStorage", numel=1 << 62), "FM109"),
    "a stride of 2^62": (b.tensor("2", (2,), kind="torch.LongStorage", numel=2, stride=(1 << 62,)), "FM301"),
    "a negative stride": (b.tensor("2", (2,), kind="torch.LongStorage", numel=2, stride=(-1,)), "FM301"),
}


@pytest.mark.parametrize(("value", "code"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_that_hurts_later_is_refused(value: bytes, code: str, sanitizer: Sanitizer, tmp_path: Path) -> None:
    seen = inspected(sanitizer, tmp_path, with_one_more(value))
    assert (codes(seen)[0], seen.verdict.refuses, seen.clean) == (code, True, None)


# Places to hide bytes in


def commented() -> bytes:
    whole = b.archive(b.pickled(b.ordered_dict(*PAIRS)), DATA)
    return whole[:-2] + struct.pack("<H", len(HIDDEN)) + HIDDEN


def torch_weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0), "bias": torch.ones(3)}


def with_attributes() -> bytes:
    out = io.BytesIO()
    weights = torch_weights()
    weights["weight"].note = HIDDEN.decode()  # type: ignore[attr-defined]
    torch.save(weights, out)
    return out.getvalue()


def in_the_slack() -> bytes:
    data = struct.pack("<2f", 1, 2) + HIDDEN + b"!!"
    return b.archive(b.pickled(b.ordered_dict((b.text("w"), b.tensor("0", (2,), numel=len(data) // 4)))), {"0": data})


def in_the_fields() -> bytes:
    """An extra field in the local header of a member, as torch's own padding is."""
    whole = bytearray(b.archive(b.pickled(b.ordered_dict(*PAIRS)), DATA))
    name = b"archive/version"
    local, field = whole.rindex(name, 0, whole.rindex(b"PK\x01\x02")) - 30, struct.pack("<2sH", b"FB", len(HIDDEN)) + HIDDEN
    struct.pack_into("<H", whole, local + 28, len(field))
    at = local + 30 + len(name)
    whole[at:at] = field
    end = len(whole) - 22
    struct.pack_into("<L", whole, end + 16, struct.unpack_from("<L", whole, end + 16)[0] + len(field))
    return bytes(whole)


PLACES = {
    "behind what a tensor shows": in_the_slack,
    "the archive's comment": commented,
    "a field of a header": in_the_fields,
    "a record that nothing refers to": lambda: b.archive(b.pickled(b.ordered_dict(*PAIRS)), DATA, extra={"archive/run.exe": HIDDEN}),
    "a storage that no tensor shows": lambda: b.archive(b.pickled(b.ordered_dict(*PAIRS)), {**DATA, "9": HIDDEN}),
    "an entry beside the weights": lambda: b.archive(b.pickled(b.ordered_dict(*PAIRS, (b.text("x"), b.text(HIDDEN.decode())))), DATA),
    "an attribute of a tensor": with_attributes,
    "the metadata of the state_dict": lambda: b.archive(
        b.pickled(b.ordered_dict(*PAIRS) + b.dict_of((b.text("_metadata"), b.text(HIDDEN.decode()))) + b"b"), DATA
    ),
}


@pytest.mark.parametrize("build", PLACES.values(), ids=PLACES)
def test_hidden_bytes_stay_behind(build: Callable[[], bytes], sanitizer: Sanitizer, tmp_path: Path) -> None:
    body = build()
    assert HIDDEN in body
    seen = inspected(sanitizer, tmp_path, body)
    if seen.verdict.refuses:
        assert seen.clean is None
    else:
        assert HIDDEN not in (tmp_path / "clean.pt").read_bytes()
        assert torch.load(tmp_path / "clean.pt", weights_only=True)


def test_most_hiding_places_cost_nobody_the_weights(sanitizer: Sanitizer, tmp_path: Path) -> None:
    refused = [name for name, build in PLACES.items() if inspected(sanitizer, tmp_path, build()).verdict.refuses]
    assert refused == []
