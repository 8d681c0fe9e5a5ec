"""The inert unpickler: the C machine that torch uses, in which every global is a stand-in. Nothing is imported, nothing runs.

What a pickle would have done is recorded: each global and how it is used, each call with its arguments.
"""

from __future__ import annotations

import io
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from _pickle import Unpickler, UnpicklingError
from typing import Any

from fifomark.torchfile.source import Broken
from fifomark.torchfile.stand_ins import Stand, StorageRef, Trace, render


class _Machine(Unpickler):
    trace: Trace

    def find_class(self, module: str, name: str) -> Any:
        old = module
        # Python 2's names, as pickle itself translates them.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if old in IMPORT_MAPPING and old != "__builtin__":
            # From protocol 3 on they are not translated, and a module of the old name is imported, whosoever it is.
            self.trace.use(f"{old}.{name}", "reference")
        if module == "torch.tensor":
            module = "torch._tensor"  # as torch itself translates it
        return self.trace.stand(f"{module}.{name}", plain="." not in name)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 2 and isinstance(pid[1], Stand):
            if pid[0] in ("module", b"module"):
                return pid[1]  # the legacy format: a class, with its source beside it
            if pid[0] in ("storage", b"storage") and 5 <= len(pid) <= 6 and isinstance(pid[2], (str, int)):
                if type(pid[3]) is not str or pid[3] == "meta":
                    raise Broken(
                        "FM304", self.trace.where, "a storage without numbers, or on a device that torch does not name", render(pid[3])
                    )
                self.trace.use(pid[1].full_name, "storage")
                ref = StorageRef(str(pid[2]), pid[1].full_name, pid[4], pid[5] if len(pid) == 6 else None)
                self.trace.refs.append(ref)
                return ref
        raise Broken("FM207", self.trace.where, "a persistent id that torch does not write", render(pid))


def load(stream: io.BufferedReader[Any], trace: Trace, where: str, *, cut: str) -> Any:
    """Read one pickle from `stream`, which is left just behind its STOP. Broken where it cannot be read to its end, with the code `cut`
    where its bytes ran out.

    A pickle can ask for any amount of memory and time: call this under limits of the operating system.
    """
    trace.where = where
    machine = _Machine(stream, encoding="utf-8", errors="backslashreplace")
    machine.trace = trace
    try:
        return machine.load()
    except Broken:
        raise
    except (MemoryError, RecursionError) as e:
        raise Broken("FM208", where, f"reading it takes too much {'memory' if isinstance(e, MemoryError) else 'depth'}") from None
    except Exception as e:  # the machine raises whatever its operands provoke
        if isinstance(e, EOFError) or (isinstance(e, UnpicklingError) and "truncated" in _said(e)):
            raise Broken(cut, where, "the pickle is cut off") from None
        raise Broken("FM207", where, "the pickle is malformed", f"{type(e).__name__}: {_said(e)}") from None


def _said(error: Exception) -> str:
    """The error's own words; never the repr() of something that the pickle made, which may nest without end."""
    return error.args[0][:300] if error.args and isinstance(error.args[0], str) else ""
