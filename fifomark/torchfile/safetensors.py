"""The clean file in the safetensors format: a length, a JSON header, and the tensors one after another.

Layout: the format's own description, github.com/huggingface/safetensors. It has no ties: a tensor with two names is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fifomark.torchfile.output import Output
from fifomark.torchfile.writer import Plan

DTYPES: Mapping[str, str] = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "complex64": "C64", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
RESERVED = "__metadata__"  # no tensor may have this name


class CleanSafetensors:
    """A clean file under way (torchfile.writer.CleanFile). Every dtype of the plans must be in DTYPES, and no name RESERVED.

    Tensors of larger elements come first, as the format's readers need them to lie at multiples of their size.
    """

    def __init__(self, out: Output, plans: Sequence[Plan]) -> None:
        self._out = out
        first = {plan.storage: plan for plan in reversed(plans)}
        ties = [plan for plan in plans if first[plan.storage] is not plan]
        order = sorted([*(first[storage] for storage in sorted(first)), *ties], key=lambda plan: -plan.dtype.itemsize)
        offsets: dict[str, tuple[int, int]] = {}
        at = 0
        for plan in order:
            offsets[plan.name] = (at, at + plan.nbytes)
            at += plan.nbytes
        tensors = {plan.name: {"dtype": DTYPES[plan.dtype.name], "shape": plan.shape, "data_offsets": offsets[plan.name]} for plan in order}
        header = json.dumps({RESERVED: {"format": "pt"}, **tensors}, ensure_ascii=False, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        out.write(len(header).to_bytes(8, "little") + header)
        self._base = out.at
        self._starts = [self._base + offsets[first[storage].name][0] for storage in range(len(first))]
        self._ties = [(self._base + offsets[plan.name][0], self._starts[plan.storage], plan.nbytes) for plan in ties]
        self._storages = 0

    def storage(self, nbytes: int) -> None:
        self._out.seek(self._starts[self._storages])
        self._storages += 1

    def written(self, crc: int) -> None:
        """The format has no checksums."""

    def close(self) -> None:
        for at, source, nbytes in self._ties:
            self._out.seek(at)
            self._out.copy(source, nbytes)
