"""Everything fifomark raises on purpose.

    FifomarkError
    ├─ UsageError            what was asked for makes no sense (exit code 2)
    │  ├─ ConfigError        a settings or rubric file is wrong: file, key, what was found, what was meant
    │  └─ SpoolError         the folder is no spool, or cannot be used as one
    │     └─ SpoolHeld       another daemon holds it
    ├─ ModelRefused          a file was not let through; `.findings` says why (exit code 1)
    │  ├─ UnsafeModel        it holds something that could run
    │  └─ InvalidModel       it cannot be read as weights, or its weights are broken
    ├─ DeclarationMissing    a model cannot be built from the file alone; `.missing` names what must be declared
    ├─ CannotBuild           a model cannot be built from these weights; `.findings` where that is the weights' fault
    ├─ PluginFailed          a plugin raised; `.plugin` and `.distribution` say which
    ├─ FunctionFailed        a function given to FIFOModelQueue.process raised, died, or returned what cannot travel
    └─ InternalError         a bug of ours or a broken machine (exit code 3)

A file that someone submitted is never an exception inside the program: it is a value with findings. `ModelRefused` exists for
the library's caller, who asked for one file and cannot get it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fifomark.core.findings import Finding


class FifomarkError(Exception):
    """The root of the tree. Its text is written for the person who reads it."""


class UsageError(FifomarkError):
    pass


class ConfigError(UsageError):
    def __init__(self, file: object, key: str, problem: str, hint: str = "") -> None:
        """`file` as the operator knows it, `key` dotted ("limits.wall_seconds"; empty: the whole file), `hint` the next step."""
        place = f"{file}: {key}: " if key else f"{file}: "
        super().__init__(place + problem + (f" ({hint})" if hint else ""))
        self.file, self.key, self.problem, self.hint = str(file), key, problem, hint


class SpoolError(UsageError):
    pass


class SpoolHeld(SpoolError):
    pass


class ModelRefused(FifomarkError):
    def __init__(self, path: object, findings: Sequence[Finding]) -> None:
        self.path, self.findings = path, tuple(findings)
        worst = max(self.findings, key=lambda f: f.level.rank)
        more = len(self.findings) - 1
        super().__init__(
            f"{path}: {worst.level}: {worst.message} [{worst.code}]" + (f" and {more} more" if more else "") + f". {worst.advice}"
        )


class UnsafeModel(ModelRefused):
    pass


class InvalidModel(ModelRefused):
    pass


class DeclarationMissing(FifomarkError):
    def __init__(self, family: str, missing: Sequence[str]) -> None:
        self.family, self.missing = family, tuple(missing)
        super().__init__(
            f"a {family} model cannot be built from its weights alone: declare {', '.join(self.missing)} "
            f"(in the rubric under [model.{family}], or as arguments of build())"
        )


class CannotBuild(FifomarkError):
    def __init__(self, family: str, seen: str, advice: str, findings: Sequence[Finding] = ()) -> None:
        """`seen` is what stands in the way; `findings` is empty where the weights may be fine and only this builder cannot build them."""
        self.family, self.seen, self.advice, self.findings = family, seen, advice, tuple(findings)
        super().__init__(f"{self.problem}. {advice}")

    @property
    def problem(self) -> str:
        """What it says, without the advice."""
        return f"this {self.family} model cannot be built: {self.seen}"


class PluginFailed(FifomarkError):
    def __init__(self, plugin: str, distribution: str, version: str, what: str) -> None:
        super().__init__(f"the plugin {plugin!r} of {f'{distribution} {version}'.strip()} failed: {what}")
        self.plugin, self.distribution, self.version = plugin, distribution, version


class FunctionFailed(FifomarkError):
    def __init__(self, path: object, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.reason = path, message


class InternalError(FifomarkError):
    pass
