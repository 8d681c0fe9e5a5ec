"""fifomark: untrusted PyTorch models in, clean weights and marks out, first in, first out.

The public names below are imported when they are first used, so that `import fifomark` costs nothing and loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fifomark.core.errors import FifomarkError, FunctionFailed, InvalidModel, ModelRefused, UnsafeModel
    from fifomark.library import SanitizedModel, inspect_model, mark_model, sanitize_model
    from fifomark.queue import FIFOModelQueue

_HOMES = {
    "FIFOModelQueue": "fifomark.queue",
    "SanitizedModel": "fifomark.library",
    "inspect_model": "fifomark.library",
    "mark_model": "fifomark.library",
    "sanitize_model": "fifomark.library",
    "FifomarkError": "fifomark.core.errors",
    "FunctionFailed": "fifomark.core.errors",
    "InvalidModel": "fifomark.core.errors",
    "ModelRefused": "fifomark.core.errors",
    "UnsafeModel": "fifomark.core.errors",
}
__all__ = [
    "FIFOModelQueue",
    "FifomarkError",
    "FunctionFailed",
    "InvalidModel",
    "ModelRefused",
    "SanitizedModel",
    "UnsafeModel",
    "inspect_model",
    "mark_model",
    "sanitize_model",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fifomark' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
