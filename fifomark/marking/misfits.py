"""How the names and shapes of a file differ from those that are wanted, said for the person who has to mend it.

Names are a stranger's: whatever is compared with each other is a few, short ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice
from os.path import commonprefix
from typing import NamedTuple

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec
from fifomark.families.layers import said

MOST = 20  # findings of one file
_TRIED = 40  # names that one is compared with
_LONG = 100  # characters of a name that is compared at all
_ALIKE = 0.75  # how near names are that mean the same although their shapes differ
_RENAME = "Give the layers of your model the names that the task asks for, or rename the keys before you save: "


class Differences(NamedTuple):
    """`other`: pairs of one name, the file's tensor and the one that is wanted; `missing` and `unexpected` names have no such pair."""

    other: Sequence[tuple[TensorSpec, TensorSpec]]
    missing: Sequence[TensorSpec]
    unexpected: Sequence[TensorSpec]


def explained(seen: Differences, who: str) -> list[Finding]:
    """A finding for each difference, or for several that come to one, at most MOST. `who` wants what is wanted: "the rubric"."""
    missing, unexpected = list(seen.missing), list(seen.unexpected)
    findings = [_another(have, wanted, who) for have, wanted in islice(seen.other, MOST)]
    said_of = len(findings)
    if renamed := _renamed(missing, unexpected):
        findings.append(renamed.finding(who))
        missing = [spec for spec in missing if spec.name not in renamed.wanted]
        unexpected = [spec for spec in unexpected if spec.name not in renamed.had]
    pairs = _paired(missing, unexpected)
    findings += [_named(have, wanted, who) for have, wanted in pairs]
    had, wanted_ones = {have.name for have, _ in pairs}, {wanted.name for _, wanted in pairs}
    missing = [spec for spec in missing if spec.name not in wanted_ones]
    unexpected = [spec for spec in unexpected if spec.name not in had]
    findings += [find("FM502", spec.name, f"{said(spec)} is missing: {who} wants it") for spec in missing[:MOST]]
    findings += [find("FM502", spec.name, f"{said(spec)} is not expected: {who} has no such tensor") for spec in unexpected[:MOST]]
    whole = len(seen.other) - said_of + len(findings) + max(0, len(missing) - MOST) + max(0, len(unexpected) - MOST)
    return findings if whole <= MOST else [*findings[: MOST - 1], _and_more(whole - MOST + 1)]


def _and_more(count: int) -> Finding:
    return find("FM502", "the model", f"{count} more tensors do not fit")


def _named(have: TensorSpec, wanted: TensorSpec, who: str) -> Finding:
    return find("FM502", have.name, f"you have {said(have)}, {who} wants {said(wanted)}")


def _another(have: TensorSpec, wanted: TensorSpec, who: str) -> Finding:
    """One name, another shape or another kind of number."""
    if have.shape != wanted.shape:
        return _named(have, wanted, who)
    return find("FM502", have.name, f"{said(have)} holds {have.dtype}, {who} wants {wanted.dtype}")


class _Rename(NamedTuple):
    """One beginning of names in the place of another; `example` is a tensor as it is and as it should be."""

    ours: str
    theirs: str
    had: frozenset[str]
    wanted: frozenset[str]
    example: tuple[TensorSpec, TensorSpec]

    def finding(self, who: str) -> Finding:
        ours, theirs = shown(repr(self.ours), 80), shown(repr(self.theirs), 80)
        if not self.theirs:
            what = f"{len(self.had)} names begin with {ours}, which {who} does not want"
        elif not self.ours:
            what = f"{len(self.had)} names lack the {theirs} that {who} wants before them"
        else:
            what = f"{len(self.had)} names begin with {ours} where {who} wants {theirs}"
        have, wanted = self.example
        code = f"{{{f'{theirs} + ' if self.theirs else ''}name.removeprefix({ours}): t for name, t in model.state_dict().items()}}"
        message = f"{what}: you have {said(have)}, {who} wants {said(wanted)}"
        return find("FM502", have.name, message, advice=f"{_RENAME}{code}.")


def _renamed(missing: Sequence[TensorSpec], unexpected: Sequence[TensorSpec]) -> _Rename | None:
    """The one prefix in another's place that explains the most names, at least two and half of those there are."""
    best: _Rename | None = None
    for ours in _beginnings(unexpected):
        for theirs in _beginnings(missing):
            found = _rename(*_without_common_end(ours, theirs), missing, unexpected)
            if found and (best is None or len(found.had) > len(best.had)):
                best = found
    return best if best and len(best.had) >= max(2, min(len(missing), len(unexpected)) / 2) else None


def _beginnings(specs: Sequence[TensorSpec]) -> list[str]:
    """What the names may have before them that others have not: nothing, all that they share, the commonest first word."""
    names = [spec.name for spec in specs]
    words = Counter(name[: name.find(".") + 1] for name in names).most_common(1)
    shared = commonprefix((min(names), max(names))) if names else ""  # noqa: RUF071 (names, not paths)
    return list(dict.fromkeys(["", shared[: shared.rfind(".") + 1], *(word for word, _ in words)]))


def _without_common_end(ours: str, theirs: str) -> tuple[str, str]:
    """ "net.fc." and "fc." differ in "net." alone."""
    mine, other = ours.split(".")[:-1], theirs.split(".")[:-1]
    while mine and other and mine[-1] == other[-1]:
        mine.pop()
        other.pop()
    return "".join(f"{word}." for word in mine), "".join(f"{word}." for word in other)


def _rename(ours: str, theirs: str, missing: Sequence[TensorSpec], unexpected: Sequence[TensorSpec]) -> _Rename | None:
    rests = {spec.name[len(theirs) :]: spec for spec in missing if spec.name.startswith(theirs)}
    pairs = [
        (spec, rests[spec.name[len(ours) :]])
        for spec in unexpected
        if spec.name.startswith(ours) and (wanted := rests.get(spec.name[len(ours) :])) and wanted.shape == spec.shape
    ]
    if not pairs or ours == theirs:
        return None
    return _Rename(ours, theirs, frozenset(have.name for have, _ in pairs), frozenset(wanted.name for _, wanted in pairs), pairs[0])


def _paired(missing: Sequence[TensorSpec], unexpected: Sequence[TensorSpec]) -> list[tuple[TensorSpec, TensorSpec]]:
    """(what is there, what is wanted) where the one is likely to be meant for the other: alike in shape, or else in name."""
    by_shape: dict[tuple[int, ...], list[TensorSpec]] = {}
    for spec in unexpected:
        by_shape.setdefault(spec.shape, []).append(spec)
    found: dict[str, TensorSpec] = {}  # what is there, by the name that is wanted
    taken: set[str] = set()
    for by_name in (False, True):
        for wanted in missing[:MOST]:
            if wanted.name in found:
                continue
            others = unexpected if by_name else by_shape.get(wanted.shape, [])
            free = list(islice((spec for spec in others if spec.name not in taken), _TRIED))
            if near := _nearest(wanted, free, by_name):
                found[wanted.name] = near
                taken.add(near.name)
    return [(found[wanted.name], wanted) for wanted in missing[:MOST] if wanted.name in found]


def _nearest(wanted: TensorSpec, free: Sequence[TensorSpec], by_name: bool) -> TensorSpec | None:
    """Of tensors of one shape those that end alike (".weight") may have any name; of others the name must be near."""
    ranked = sorted(_ranked(wanted, free), key=lambda pair: -pair[0])
    if not ranked:
        return None
    score, best = ranked[0]
    alone = len(free) == 1 and not by_name and len(wanted.shape) > 1
    return best if score >= (1 + _ALIKE if by_name else 1) or alone else None


def _ranked(wanted: TensorSpec, free: Iterable[TensorSpec]) -> Iterator[tuple[float, TensorSpec]]:
    """How alike names are, from 0 to 1, and 1 more for those that end in the same word."""
    matcher = SequenceMatcher(None, b=wanted.name[:_LONG])
    for spec in free:
        if len(spec.name) <= _LONG:
            matcher.set_seq1(spec.name)
            yield matcher.ratio() + (spec.name.rpartition(".")[2] == wanted.name.rpartition(".")[2]), spec
