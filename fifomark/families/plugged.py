"""A plugin's family, held to what a family promises: what it gives instead is its author's mistake, and none of a submitter's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fifomark import plugins
from fifomark.core.errors import CannotBuild, DeclarationMissing, PluginFailed
from fifomark.core.findings import Finding
from fifomark.core.outcome import PluginUsed
from fifomark.families.family import Family, Match
from fifomark.families.layers import Layers

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")


class Plugged(Family):
    """As `family`, which the plugin `used` gave. PluginFailed where it raises, or gives what no family may; CannotBuild and
    DeclarationMissing, which a family may raise, pass."""

    def __init__(self, family: Family, used: PluginUsed) -> None:
        self.name, self.facts = family.name, family.facts  # type: ignore[misc]  # those of a class elsewhere
        self._family, self._used = family, used

    def judge(self, layers: Layers) -> Match | None:
        seen: object = self._asked(self._family.judge, layers)
        if seen is None:
            return None
        if not isinstance(seen, Match) or seen.family != self.name:
            found = f"a Match of {seen.family!r}" if isinstance(seen, Match) else f"a {type(seen).__name__}"
            self._wrong(f"judge() gave {found}, expected a Match of {self.name!r} or None")
        strength: object = seen.strength
        if not isinstance(strength, (int, float)) or not 0 <= strength <= 1:  # NaN is not
            self._wrong(f"judge() gave a Match of strength {strength!r}, expected a number from 0 to 1")
        return seen

    def invariants(self, match: Match) -> list[Finding]:
        """CannotBuild where there are findings: what is refused after this, the weights are not to blame for."""
        found: object = self._asked(self._family.invariants, match)
        if not isinstance(found, (list, tuple)) or not all(isinstance(one, Finding) for one in found):
            self._wrong(f"invariants() gave a {type(found).__name__}, expected a list of findings")
        super().refuse(found)
        return []

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        model = self._asked(self._family.build, match, declared, input_shape)
        if not hasattr(model, "load_state_dict"):  # torch is not known here
            self._wrong(f"build() gave a {type(model).__name__}, expected a torch.nn.Module")
        return model

    def refuse(self, findings: Sequence[Finding]) -> None:
        if findings:
            self._wrong(f"build() gave a model that the weights do not fit: {findings[0].message}")

    def _asked(self, call: Callable[..., T], *args: Any) -> T:
        try:
            return call(*args)
        except (CannotBuild, DeclarationMissing, PluginFailed):
            raise
        except BaseException as e:  # sys.exit() too
            raise plugins.failed(self._used, e) from e

    def _wrong(self, problem: str) -> NoReturn:
        raise plugins.failed(self._used, TypeError(problem))
