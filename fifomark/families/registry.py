"""The families that are known, and which of them a set of weights is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Protocol, TypeVar

from fifomark import plugins
from fifomark.core.errors import UsageError
from fifomark.core.weights import FamilySeen, TensorSpec
from fifomark.families.census import missing, mixture
from fifomark.families.cnn import CNN
from fifomark.families.family import Family, Match, did_you_mean
from fifomark.families.layers import Layers, read
from fifomark.families.logistic import Logistic
from fifomark.families.mlp import MLP
from fifomark.families.plugged import Plugged
from fifomark.families.rnn import RNN
from fifomark.families.transformer import Transformer

T_co = TypeVar("T_co", covariant=True)
UNKNOWN = "unknown"
_REMEMBERED, _MANY = 32, 500  # so many sets of weights are remembered, of at most so many tensors
_MARGIN = 0.1  # two matches nearer to each other than this fit equally well


def registered(families: Iterable[Family]) -> Mapping[str, Family]:
    """Families by name; UsageError where two have one name, or one is called "unknown"."""
    by_name: dict[str, Family] = {}
    for one in families:
        if one.name in by_name or one.name == UNKNOWN:
            raise UsageError(f"a family called {one.name!r} cannot be added: the name is taken")
        by_name[one.name] = one
    return by_name


FAMILIES: Mapping[str, Family] = registered((Logistic(), MLP(), CNN(), RNN(), Transformer()))


def family(name: str) -> Family:
    """UsageError with the nearest name where there is none of this name."""
    if name not in FAMILIES:
        raise UsageError(f"no family is called {name!r} ({did_you_mean(name, tuple(FAMILIES))})")
    return FAMILIES[name]


def with_plugins(names: Iterable[str]) -> Mapping[str, Family]:
    """Our families and those plugins; names of ours among them are passed over. PluginFailed where one is no family of its name."""
    others = [_plugged(name) for name in dict.fromkeys(names) if name not in FAMILIES]
    return registered((*FAMILIES.values(), *others)) if others else FAMILIES


def _plugged(name: str) -> Family:
    made, used, _ = plugins.load(plugins.FAMILIES, name)
    try:
        family = made() if isinstance(made, type) else made
    except BaseException as e:  # sys.exit() too
        raise plugins.failed(used, e) from e
    if not isinstance(family, Family) or family.name != name:
        found = f"a family called {family.name!r}" if isinstance(family, Family) else f"a {type(family).__name__}"
        raise plugins.failed(used, TypeError(f"its entry point gives {found}, expected a fifomark.families.family.Family called {name!r}"))
    return Plugged(family, used)


class _Asked(Protocol[T_co]):
    def __call__(self, weights: Sequence[TensorSpec], families: Mapping[str, Family] = ...) -> T_co: ...


def _remembering(ask: _Asked[T_co]) -> _Asked[T_co]:
    """Files that come in numbers often have one architecture: what our own families say of it is worked out once."""
    remembered = lru_cache(maxsize=_REMEMBERED)(lambda weights: ask(weights, FAMILIES))

    @wraps(ask)
    def answer(weights: Sequence[TensorSpec], families: Mapping[str, Family] = FAMILIES) -> T_co:
        few = families is FAMILIES and len(weights) <= _MANY
        return remembered(tuple(weights)) if few else ask(weights, families)

    return answer


@_remembering
def match(weights: Sequence[TensorSpec], families: Mapping[str, Family] = FAMILIES) -> Match | None:
    """The one family that these weights are; None where none is convincing or two fit equally well."""
    return _decided(_ranked(read(weights), families))


@_remembering
def recognise(weights: Sequence[TensorSpec], families: Mapping[str, Family] = FAMILIES) -> FamilySeen:
    """The family with its evidence; "unknown" with what was seen, what it might be, and why it was not named."""
    layers = read(weights)
    ranked = _ranked(layers, families)
    if found := _decided(ranked):
        others = tuple(one.family for one in ranked if one is not found)
        evidence = (*found.evidence, *layers.remarks(), *_credit(found.family))
        return FamilySeen(name=found.family, evidence=evidence, alternatives=others, contradictions=found.contradictions)
    against = (*missing(layers), *(f"{one.family}: {sentence}" for one in ranked for sentence in one.contradictions))
    return FamilySeen(
        name=UNKNOWN,
        evidence=(*mixture(layers), *layers.seen(), *layers.remarks()),
        alternatives=tuple(one.family for one in ranked),
        contradictions=against,
    )


def _credit(name: str) -> tuple[str, ...]:
    """Whose word it is, where it is not ours."""
    used = plugins.used(plugins.FAMILIES, name)
    return (f"recognised by the plugin {name!r} of {used.distribution} {used.version}",) if used else ()


def _ranked(layers: Layers, families: Mapping[str, Family]) -> list[Match]:
    found = [seen for one in families.values() if (seen := one.judge(layers))]
    return sorted(found, key=lambda seen: -seen.strength)


def _decided(ranked: Sequence[Match]) -> Match | None:
    if not ranked or not ranked[0].convincing:
        return None
    equal = [seen for seen in ranked if seen is ranked[0] or seen.strength > ranked[0].strength - _MARGIN]
    named = [seen for seen in equal if plugins.used(plugins.FAMILIES, seen.family)] if len(equal) > 1 else equal
    return named[0] if len(named) == 1 and named[0].convincing else None  # a plugin was named for what ours know less of
