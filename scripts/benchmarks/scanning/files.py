"""The files that the scanners are asked about, in a folder: our own attacks, honest files, and files of broken numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

TESTS = Path(__file__).parents[3] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "attacks")]

import builders as b  # noqa: E402
import honest  # noqa: E402
import test_formats as formats  # noqa: E402
import test_recall as recall  # noqa: E402
import test_verdicts as verdicts  # noqa: E402
import torch  # noqa: E402

from fifomark.core.policy import Limits  # noqa: E402

Files = Iterator[tuple[str, bytes]]


def calls(marker: Path) -> Files:
    """Pickles that call or import something that no model needs: every opcode in every place, the callables taken in turn."""
    argument = b.text(f"touch {marker}")
    for i, (opcode, place) in enumerate(product(recall.OPCODES, recall.PLACES)):
        name = recall.CALLABLES[i % len(recall.CALLABLES)]
        yield f"{name} by {opcode} in {place}", recall.PLACES[place](recall.OPCODES[opcode](name).replace(recall.ARGUMENT, argument))


def attacks(marker: Path) -> Files:
    """The named attacks: ways round a scanner, exhaustion, other formats, tensors that hurt later."""
    for name, attack in verdicts.ATTACKS.items():
        if attack.limits in (Limits(), verdicts.QUICK):
            yield name, attack.body(marker)
    for name, (value, _) in formats.TENSORS.items():
        yield name, formats.with_one_more(value)
    yield "TorchScript that writes a file when it is loaded", formats.scripted(formats.SavesWhenLoaded(str(marker)))


def honest_files(marker: Path) -> Files:
    """Every honest shape, as torch ≥ 1.6 and as torch before saved it."""
    for name, make in honest.SHAPES.items():
        for zipped in (True, False):
            if zipped or name not in honest.NEWER:
                yield f"{name} ({'zip' if zipped else 'legacy'})", honest.saved(make()[0], zipped=zipped)
    for protocol in (3, 4, 5):
        yield f"protocol {protocol}", honest.saved(honest.plain(), protocol=protocol)
    yield "TorchScript", formats.scripted(honest.net().eval())


def broken_numbers(marker: Path) -> Files:
    """NaN, Inf and broken statistics in files of which nothing else is wrong."""
    for value, dtype in product(("nan", "inf"), ("float32", "float16", "bfloat16", "float64", "float8_e5m2", "complex64")):
        weights = honest.plain()
        broken = torch.ones(20)
        broken[7] = float(value)
        weights["head.weight"] = broken.to(getattr(torch, dtype))
        yield f"{value} in {dtype}", honest.saved(weights)
    for name, change in {
        "a negative variance": {"norm.running_var": torch.tensor([1.0, 1.0, -1.0, 1.0])},
        "a variance of NaN": {"norm.running_var": torch.tensor([1.0, float("nan"), 1.0, 1.0])},
        "a negative counter": {"norm.num_batches_tracked": torch.tensor(-5)},
        "a layer of zeros": {"head.weight": torch.zeros(10, 4)},
        "a layer of ones": {"head.weight": torch.ones(10, 4)},
        "weights of 1e30": {"head.weight": honest.plain()["head.weight"] * 1e30},
    }.items():
        yield name, honest.saved({**honest.plain(), **change})
    for key in ("model", "state_dict"):
        yield f"NaN under {key}", honest.saved({key: {**honest.plain(), "head.bias": torch.full((10,), float("nan"))}})
    yield "Inf in a whole module", honest.saved(_with_inf())
    yield "NaN in the legacy format", honest.saved({**honest.plain(), "head.bias": torch.full((10,), float("nan"))}, zipped=False)


def _with_inf() -> honest.Net:
    model = honest.net()
    with torch.no_grad():
        model.head.bias.fill_(float("inf"))
    return model


SETS = {"calls": calls, "attacks": attacks, "honest": honest_files, "numbers": broken_numbers}


def written(folder: Path, marker: Path) -> dict[str, dict[str, Path]]:
    """The files of each set by name, each as a .pt of its own."""
    made: dict[str, dict[str, Path]] = {}
    for kind, build in SETS.items():
        (folder / kind).mkdir()
        made[kind] = {}
        for i, (name, body) in enumerate(build(marker)):
            path = made[kind][name] = folder / kind / f"{i:04d}.pt"
            path.write_bytes(body)
    return made
