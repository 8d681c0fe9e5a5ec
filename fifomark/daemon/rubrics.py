"""The rubrics of a spool as the daemon holds them: read and checked at the start, and again when one is changed."""

from __future__ import annotations

from fifomark import plugins
from fifomark.core.errors import ConfigError
from fifomark.marking.data.loading import check_data
from fifomark.marking.rubric import Rubric, load_rubric, rubric_sha256
from fifomark.spool.spool import Spool

Rubrics = dict[str, tuple[Rubric, str]]  # by name, each with the hash that it was read with


def load_rubrics(spool: Spool) -> Rubrics:
    """Every rubric of the spool; ConfigError where one or its data is wrong, the default one or a plugin of the settings is missing."""
    for plugin in spool.settings.plugins:
        plugins.check(plugins.FAMILIES, plugin, spool.layout.settings, "plugins")
    rubrics = {name: _load(spool, name) for name in spool.rubrics()}
    default = spool.settings.default_rubric
    if default not in rubrics:
        known = f"rubrics here: {', '.join(rubrics)}" if rubrics else "put one there, or make a new spool with: fifomark init"
        raise ConfigError(spool.layout.settings, "default_rubric", f"{default!r} has no rubrics/{default}/rubric.toml", known)
    return rubrics


def refresh(spool: Spool, rubrics: Rubrics) -> None:
    """Read again what has changed on disk, so that nothing is marked by half of one rubric and half of another.

    ConfigError where the new one is wrong: better that marking stops, with all work put back, than that models are marked by guesswork.
    """
    for name, (_, sha256) in rubrics.items():
        if _hash(spool.layout.rubric(name)) != sha256:
            rubrics[name] = _load(spool, name)


def _load(spool: Spool, name: str) -> tuple[Rubric, str]:
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
