"""The library's way to one file: look at it, take its weights, build and mark it. Nothing that was submitted is ever loaded."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fifomark.core.errors import InvalidModel, UnsafeModel, UsageError
from fifomark.core.findings import Finding, Verdict
from fifomark.core.inspection import Inspection
from fifomark.core.policy import Limits, Policy

if TYPE_CHECKING:
    import torch

    from fifomark.core.report import Report

ModelPath = str | os.PathLike[str]


class SanitizedModel:
    """The weights of a file that was let through, and what was found on the way. Made by `sanitize_model`."""

    def __init__(self, inspection: Inspection, clean: str, folder: str) -> None:
        self.inspection = inspection
        self._clean = clean
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def family(self) -> str:
        """The kind of network: "logistic", "mlp", "cnn", "rnn", "transformer" or "unknown"."""
        return self.inspection.family.name if self.inspection.family else "unknown"

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.inspection.findings

    @property
    def verdict(self) -> Verdict:
        """`clean`, or `flagged` where a finding is a warning."""
        return self.inspection.verdict

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights by their names, on the CPU, loaded from the clean file."""
        import torch

        weights: dict[str, torch.Tensor] = torch.load(self._clean, weights_only=True, map_location="cpu")
        return weights

    def save(self, path: ModelPath) -> Path:
        """Write the clean file to `path`, replacing what is there; returns the path."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            shutil.copyfile(self._clean, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def build(self, input_shape: tuple[int, ...] | None = None, **declared: Any) -> torch.nn.Module:
        """The model that the weights are for, with them loaded, in eval mode.

        `declared` are the facts that a file cannot tell (`nhead=4` for a Transformer, `layers=[…]` for a CNN); DeclarationMissing names one
        that is needed. `input_shape` is that of one example, without the batch; models that read their input as it comes do without.
        """
        from fifomark.marking.model import build_model

        return build_model(self.state_dict(), declared, input_shape)


def inspect_model(path: ModelPath, *, policy: Policy | None = None, limits: Limits | None = None) -> Inspection:
    """What the file at `path` is, without running anything in it and without writing anything. FileNotFoundError where there is none."""
    from fifomark.sanitizer.sanitizer import Sanitizer

    _must_exist(path)
    with Sanitizer(limits or Limits(), policy or Policy()) as sanitizer:
        return sanitizer.inspect(path)


def sanitize_model(
    path: ModelPath, *, on_unsafe: Literal["reject", "disarm"] = "reject", policy: Policy | None = None, limits: Limits | None = None
) -> SanitizedModel:
    """The weights of the file at `path`, taken without loading it.

    UnsafeModel where it holds something that could run, InvalidModel where it cannot be read or its weights are broken; both have
    `.findings`. FileNotFoundError where there is no such file.
    """
    from fifomark.sanitizer.sanitizer import Sanitizer

    _must_exist(path)
    if policy is None:
        policy = Policy(on_unsafe=on_unsafe)
    elif on_unsafe != "reject":
        raise UsageError("give on_unsafe or a policy, not both")
    folder = tempfile.mkdtemp(prefix="fifomark-")
    try:
        clean = os.path.join(folder, "clean.pt")
        with Sanitizer(limits or Limits(), policy) as sanitizer:
            inspection = sanitizer.inspect(path, clean_to=clean)
        if inspection.verdict.refuses:
            refused = UnsafeModel if inspection.verdict is Verdict.UNSAFE else InvalidModel
            raise refused(os.fspath(path), inspection.findings)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return SanitizedModel(inspection, clean, folder)


def mark_model(
    path: ModelPath,
    rubric: str | os.PathLike[str],
    *,
    slot: str | None = None,
    policy: Policy | None = None,
    limits: Limits | None = None,
) -> Report:
    """The report on the file at `path`, marked against the rubric (its folder, or its rubric.toml) in a process of its own.

    `slot` is where it runs: "cpu", "cpu:2" (two threads), "cuda:0". ConfigError where the rubric is wrong, FileNotFoundError where there is
    no such file; whatever is wrong with the model stands in the report. In a script the call stands below
    `if __name__ == "__main__":`, as with any multiprocessing; on a GPU it must.
    """
    from fifomark.daemon.single import Marker
    from fifomark.workers.guard import needs_guard

    needs_guard("mark_model()")
    _must_exist(path)
    with Marker(rubric, limits, policy, slot) as marker:
        return marker.mark(path)


def _must_exist(path: ModelPath) -> None:
    from fifomark.sanitizer.opening import is_missing

    if is_missing(path):
        raise FileNotFoundError(f"{os.fspath(path)}: no such file")
