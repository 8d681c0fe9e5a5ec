"""Models of the rubric's own class: made by the operator's Python, filled with what was submitted.

A mistake in that Python is the operator's, and is found before the first submission: the class is tried once for each rubric. The
weights are compared with an outline of it, which takes no memory. Then it is made once for each submission, in earnest: a buffer that is
not saved, or a number that is no buffer at all, is there only where the constructor has run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fifomark.core.errors import ConfigError, InternalError
from fifomark.core.findings import Finding
from fifomark.marking.filling import cast, compare, fill
from fifomark.marking.python import load_callable, said
from fifomark.marking.running import PRECISIONS, Examples, Misbehaved, OutOfMemory, Runner
from fifomark.marking.schema import Rubric

_KEY = "model.factory"
_TRIED = 2  # examples


class Factory:
    """What `model.factory` of a rubric names. ConfigError where it cannot be had, or makes no model."""

    def __init__(self, folder: str | os.PathLike[str], rubric: Rubric, place: object) -> None:
        assert rubric.model.factory is not None
        self.reference, self._args = rubric.model.factory, rubric.model.args
        self._folder, self._place = folder, place
        arguments = f"model.args are {', '.join(self._args)}" if self._args else "there are no model.args"
        self._own = load_callable(folder, self.reference, place, _KEY, arguments=arguments)
        self._outline = self._outlined()

    def make(self) -> nn.Module:
        """A new model, as the constructor leaves it."""
        model = self._own(**self._args)
        if not isinstance(model, nn.Module):
            raise self._own.wrong(f"gives a {type(model).__name__}, expected a torch.nn.Module")
        return model

    def filled(self, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module | list[Finding]:
        """A new model with these weights, in eval mode, its real numbers in `dtype`; or why they do not fit."""
        try:
            if self._outline is not None and (findings := compare(self._outline, weights, "the rubric")):
                return findings
            model = cast(self.make(), dtype)
            return fill(model, weights, "the rubric") or model.eval()
        except ConfigError:
            raise
        except (
            BaseException
        ) as e:  # a hook of its own, perhaps: not to be told from a weight that it cannot take, and no reason to stop all
            raise InternalError(f"{self.reference} of the rubric raised {said(e, self._folder)} while it was filled") from e

    def try_on(self, rubric: Rubric, examples: Examples, device: torch.device) -> None:
        """Run a new model on the first examples. ConfigError where it fails: then no submission can be marked, and none is to blame."""
        runner = Runner(self.make().eval(), rubric.task, device, PRECISIONS[rubric.run.precision])
        some = [tensor[:_TRIED] for tensor in examples.inputs]
        try:
            runner.outputs(some, tuple(examples.labels[:_TRIED].shape))
        except (SystemExit, KeyboardInterrupt) as e:
            raise self._own.failed(e) from e
        except OutOfMemory:
            return  # the first submission says it better
        except Misbehaved as e:
            if e.finding.code != "FM605":  # numbers that nobody trained may be anything
                cause = f"{said(e.__cause__, self._folder)}" if e.__cause__ else e.finding.message
                message = f"a new {self.reference} cannot be run on the rubric's own data: {cause}"
                raise ConfigError(self._place, _KEY, message, e.finding.evidence or "") from e

    def _outlined(self) -> nn.Module | None:
        """The model without memory; None where its constructor needs real numbers, or leaves shapes open."""
        try:
            with torch.device("meta"):
                model = self._own(**self._args)
            tensors = list(chain(model.parameters(), model.buffers()))
        except Exception:
            self.make()  # says what is wrong, where it is not the device
            return None
        whole = all(tensor.is_meta and not is_lazy(tensor) for tensor in tensors)
        return model if whole and isinstance(model, nn.Module) else None
