"""What a family is: it recognises weights, checks them, says what a file cannot tell, and builds the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from fifomark.core.errors import CannotBuild, ConfigError, DeclarationMissing
from fifomark.core.findings import Finding
from fifomark.core.nearest import nearest
from fifomark.core.weights import TensorSpec
from fifomark.families.layers import Layers, read

if TYPE_CHECKING:
    from torch import nn

REQUIRED: Final = object()  # a fact without a default
FACTORY: Final = "ask whoever runs the marking to name a factory in the rubric: a function of its own Python that makes the model."
CONVINCING: Final = 2 / 3  # the strength from which on a match names the family


class Match(NamedTuple):
    """Weights seen with the eyes of one family.

    `strength` is the share of what was seen that speaks for the family, 0 to 1. `read` holds what the shapes tell (sizes, counts, kinds).
    """

    family: str
    strength: float
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...]
    read: Mapping[str, int | str | bool | tuple[int, ...]]
    layers: Layers

    @property
    def convincing(self) -> bool:
        return self.strength >= CONVINCING


class NotAllowed(ValueError):
    def __init__(self, key: str, problem: str, hint: str = "") -> None:
        """`key` is the place inside the value (".[3].kernel"; empty: the value itself)."""
        super().__init__(problem)
        self.key, self.problem, self.hint = key, problem, hint


def _as_it_is(value: object) -> object:
    return value


def _always(_: Match) -> bool:
    return True


class Fact(NamedTuple):
    """Something that changes the outputs and that no file of weights can tell.

    `allowed` lists the values (empty: `parse` decides; it returns the value to use or raises NotAllowed). `matters` says whether it
    changes anything for a given match.
    """

    meaning: str
    default: object = REQUIRED
    allowed: tuple[object, ...] = ()
    parse: Callable[[object], object] = _as_it_is
    matters: Callable[[Match], bool] = _always


class Family(ABC):
    """A kind of network. `facts` are in the order in which they are reported."""

    name: ClassVar[str]
    facts: ClassVar[Mapping[str, Fact]] = {}

    def evidence(self, weights: Sequence[TensorSpec]) -> Match | None:
        """None where nothing speaks for this family; a weak match (not `convincing`) where something does, but not enough."""
        return self.judge(read(weights))

    @abstractmethod
    def judge(self, layers: Layers) -> Match | None:
        """`evidence` on tensors that are grouped into layers already."""

    @abstractmethod
    def invariants(self, match: Match) -> list[Finding]:
        """What must hold between the tensors in this family, and does not; empty when all is well."""

    @abstractmethod
    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        """A model in eval mode, parameters zero, into which these weights fit with strict=True, whatever their names.

        `declared` is what `settle` returned. `input_shape` is of one example: (T,) token ids where there is an embedding, otherwise floats.
        `model.assumed` lists in sentences what was supposed beyond `declared`. CannotBuild, with findings where the weights are at fault.
        """

    def refuse(self, findings: Sequence[Finding]) -> None:
        """CannotBuild where there are findings."""
        if findings:
            raise CannotBuild(self.name, findings[0].message, findings[0].advice, findings)


def settle(
    family: Family, declared: Mapping[str, Any], where: object, match: Match | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(a value for each fact, the assumed ones as sentences: "activation = relu (not declared)").

    `where` is the file (and key) that `declared` stands in, for messages. With `match`, facts that change nothing for it are neither
    asked for nor reported. ConfigError for an unknown fact or a value that is not allowed; DeclarationMissing for facts without a default.
    """
    for name in declared:
        if name not in family.facts:
            raise ConfigError(where, name, f"is nothing that a {family.name} model can be told", did_you_mean(name, tuple(family.facts)))
    values = {name: _checked(name, fact, declared[name], where) for name, fact in family.facts.items() if name in declared}
    rest = {name: fact for name, fact in family.facts.items() if name not in declared}
    wanted = {name for name, fact in rest.items() if match is None or fact.matters(match)}
    if missing := [name for name in rest if name in wanted and rest[name].default is REQUIRED]:
        raise DeclarationMissing(family.name, missing)
    values |= {name: fact.default for name, fact in rest.items() if fact.default is not REQUIRED}
    return values, tuple(f"{name} = {_toml(rest[name].default)} (not declared)" for name in rest if name in wanted)


def did_you_mean(name: object, known: Sequence[object]) -> str:
    texts = [_toml(value) for value in known]
    near = nearest(str(name), texts)
    return f"did you mean {near!r}?" if near else f"known here: {', '.join(texts) or 'nothing'}"


def _checked(name: str, fact: Fact, value: object, where: object) -> object:
    if fact.allowed and not any(type(value) is type(choice) and value == choice for choice in fact.allowed):
        raise ConfigError(where, name, f"{value!r} is not allowed", did_you_mean(value, fact.allowed))
    try:
        return fact.parse(value)
    except NotAllowed as e:
        raise ConfigError(where, name + e.key, e.problem, e.hint) from e


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
