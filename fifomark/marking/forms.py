"""The forms of submission that a rubric accepts, and what to do about one that it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.inspection import Form

_IS: Mapping[Form, str] = {
    "state_dict": "the weights alone, torch.save(model.state_dict(), …)",
    "checkpoint": "a checkpoint, with the weights in a dict beside other things",
    "module": "a whole model, torch.save(model, …)",
    "torchscript": "a TorchScript archive, torch.jit.save(…)",
}
_MAKE: Mapping[Form, str] = {
    "state_dict": "Save the weights alone: torch.save(model.state_dict(), 'model.pt').",
    "checkpoint": "Save the weights in a dict: torch.save({'state_dict': model.state_dict()}, 'model.pt').",
    "module": "Save the whole model: torch.save(model, 'model.pt').",
    "torchscript": "Save it as TorchScript: torch.jit.script(model).save('model.pt').",
}


def not_accepted(form: Form | None, accepted: Sequence[Form]) -> Finding | None:
    """The finding that refuses a file of this form, if the rubric does. None is a form that nobody looked for."""
    if form is None or form in accepted:
        return None
    taken = " or ".join(_IS[one] for one in _IS if one in accepted) or "nothing at all"
    first = next((_MAKE[one] for one in _MAKE if one in accepted), None)
    return find("FM507", "the file", f"this is {_IS[form]}; the task takes {taken}", evidence=form, advice=first)
