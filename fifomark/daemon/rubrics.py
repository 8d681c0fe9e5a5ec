"""The rubrics of a spool as the daemon holds them: read and checked at the start, and again when one is changed."""

from __future__ import annotations

from fifomark import plugins
from fifomark.core.errors import ConfigError, UsageError
from fifomark.marking.data.loading import check_data
from fifomark.marking.rubric import Rubric, load_rubric, rubric_sha256
from fifomark.spool.spool import Spool

Rubrics = dict[str, tuple[Rubric, str]]  # by name, each with the hash that it was read with


def load_rubrics(spool: Spool) -> Rubrics:
    """Every rubric of the spool; ConfigError where one or its data is wrong, the default one or a plugin of the settings is missing."""
    check_named(spool)
    return {name: load_rubric_of(spool, name) for name in spool.rubrics()}


def check_named(spool: Spool) -> None:
    """ConfigError where the settings name a plugin or a default rubric that is not there."""
    for plugin in spool.settings.plugins:
        plugins.check(plugins.FAMILIES, plugin, spool.layout.settings, "plugins")
    default, rubrics = spool.settings.default_rubric, spool.rubrics()
    if default not in rubrics:
        known = f"rubrics here: {', '.join(rubrics)}" if rubrics else "put one there, or make a new spool with: fifomark init"
        raise ConfigError(spool.layout.settings, "default_rubric", f"{default!r} has no rubrics/{default}/rubric.toml", known)


def refresh(spool: Spool, rubrics: Rubrics, broken: dict[str, str] | None = None) -> None:
    """Read again what has changed on disk, so that nothing is marked by half of one rubric and half of another.

    One that is wrong now goes into `broken`, with the reason, and out of it when it is mended: its submissions wait, nobody is marked by
    guesswork. Without `broken` it is a ConfigError.
    """
    for name, (_, sha256) in rubrics.items():
        if (found := _hash(spool.layout.rubric(name))) != sha256:
            _take(spool, name, found, rubrics, broken)


def reread(spool: Spool, rubrics: Rubrics, broken: dict[str, str]) -> None:
    """Read every rubric again, new ones too; what goes wrong is told as in `refresh`."""
    for name in sorted({*rubrics, *spool.rubrics()}):
        _take(spool, name, _hash(spool.layout.rubric(name)), rubrics, broken)


def _take(spool: Spool, name: str, found: str, rubrics: Rubrics, broken: dict[str, str] | None) -> None:
    try:
        rubrics[name] = load_rubric_of(spool, name)
    except UsageError as e:
        if broken is None:
            raise
        if name in rubrics:
            rubrics[name] = (rubrics[name][0], found)  # what was marked by the one that was right no longer counts, either
        broken[name] = str(e)
    else:
        (broken if broken is not None else {}).pop(name, None)


def load_rubric_of(spool: Spool, name: str) -> tuple[Rubric, str]:
    """The spool's rubric of this name, with its hash; ConfigError where it or its data is wrong."""
    folder = spool.layout.rubric(name)
    sha256 = _hash(folder)  # first: what changes while it is read shows as a change at the next turn
    rubric = load_rubric(folder)
    check_data(folder, rubric)  # shapes and labels are checked now, not when the first model comes
    return rubric, sha256


def _hash(folder: str) -> str:
    """Empty where the rubric cannot be read; reading it then says why."""
    try:
        return rubric_sha256(folder)
    except OSError:
        return ""
