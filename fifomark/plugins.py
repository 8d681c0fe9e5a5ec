"""Plugins: entry points of installed distributions, by name. Only those that the settings or a rubric name are ever imported.

What goes wrong in one is its own error, by name: never a submitter's, and never one of ours in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from fifomark.core.errors import ConfigError, PluginFailed
from fifomark.core.nearest import nearest
from fifomark.core.outcome import PluginUsed
from fifomark.core.text import shown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

PREFIX = "plugin:"  # before a plugin's name, where a rubric may name other things as well
FAMILIES, DATASETS, METRICS = GROUPS = ("fifomark.families", "fifomark.datasets", "fifomark.metrics")


class Loaded(NamedTuple):
    """`made` is the object that the entry point names, `package` the top of the module that it is in."""

    made: object
    used: PluginUsed
    package: str


_loaded: dict[tuple[str, str], Loaded] = {}


def names(group: str) -> tuple[str, ...]:
    """The plugins that are installed, none of them imported."""
    return tuple(sorted({entry.name for entry in _listed(group)}))


def is_there(group: str, name: str) -> bool:
    return bool(_listed(group, name=name))


def check(group: str, name: str, place: object, key: str) -> None:
    """ConfigError, about `key` in the file `place`, where no plugin of the group has this name, or more than one has."""
    found = _entries(group, name)
    if not found:
        near = nearest(name, names(group))
        known = f"did you mean {near!r}?" if near else f"installed: {', '.join(names(group)) or 'none'}"
        raise ConfigError(place, key, f"no plugin of {group} is called {name!r}", known)
    if len(found) > 1:
        owners = " and ".join(sorted(_used(entry).distribution for entry in found))
        raise ConfigError(place, key, f"{name!r} is a plugin of {owners}", "uninstall one of them")


def load(group: str, name: str) -> Loaded:
    """The plugin, imported once. PluginFailed where importing it raises, ConfigError where there is none."""
    known = _loaded.get((group, name))
    if known is None:
        check(group, name, f"plugin {name}", "")
        (entry,) = _entries(group, name)
        used = _used(entry)
        try:
            made = entry.load()
        except BaseException as e:  # sys.exit() too
            raise failed(used, e) from e
        _loaded[group, name] = known = Loaded(made, used, entry.module.partition(".")[0])
    return known


def used(group: str, name: str) -> PluginUsed | None:
    """The plugin of this name, where it has been imported."""
    loaded = _loaded.get((group, name))
    return loaded.used if loaded else None


def failed(used: PluginUsed, error: BaseException, hint: str = "") -> PluginFailed:
    text = shown((str(error).splitlines() or [""])[0], 300)
    what = f"{type(error).__name__}{': ' if text else ''}{text}{f' ({hint})' if hint else ''}"
    return PluginFailed(used.name, used.distribution, used.version, what)


def responsible(error: BaseException) -> PluginFailed | None:
    """The error as that of the plugin whose code it passed, if it passed any."""
    if isinstance(error, PluginFailed):
        return error
    # Of several in one package the family counts last, and so wins: what it has built runs where its name is not at hand.
    packages = {loaded.package: loaded.used for loaded in sorted(_loaded.values(), key=lambda loaded: loaded.used.group == FAMILIES)}
    if packages:
        for module in _modules(error.__traceback__):
            if used := packages.get(module.partition(".")[0]):
                return failed(used, error)
    return responsible(error.__cause__) if error.__cause__ is not None else None


def _modules(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next


def _listed(group: str, name: str | None = None) -> EntryPoints:
    from importlib.metadata import entry_points  # which takes its time to import; many a process never asks

    return entry_points(group=group) if name is None else entry_points(group=group, name=name)


def _entries(group: str, name: str) -> list[EntryPoint]:
    """One for each distribution and value: a distribution that two folders of the path hold is still one."""
    entries = {(entry.value, _used(entry).distribution): entry for entry in reversed(_listed(group, name=name))}
    return list(entries.values())


def _used(entry: EntryPoint) -> PluginUsed:
    owner = entry.dist
    return PluginUsed(
        group=entry.group,
        name=entry.name,
        distribution=owner.name if owner else "an unknown distribution",
        version=owner.version if owner else "",
    )
