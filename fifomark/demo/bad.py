"""The demo's bad files that need no torch to make. Harmless: the one that would run a command would only touch a file."""

from __future__ import annotations

import io
import os
import pickle
import shlex
import zipfile


class _Surprise:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self._command,)


def write_bad_files(folder: str | os.PathLike[str], marker: str | os.PathLike[str]) -> None:
    """Write them into `folder`, which must hold the trained ones. Loading mallory's with pickle would make the file `marker`."""
    with open(os.path.join(folder, "charles__cnn.pt"), "rb") as file:
        whole = file.read()
    bodies = {
        "iris__renamed.pt": b"Dear instructor,\nplease find my model attached.\n",
        "john__truncated.pt": whole[: len(whole) // 2],
        "mallory__surprise.pt": _surprise(f"touch {shlex.quote(os.path.abspath(marker))}"),
        "niels__upload.pt.part": whole[: len(whole) // 3],
    }
    for name, body in bodies.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(body)


def _surprise(command: str) -> bytes:
    """A .pt as torch.save lays one out, whose weights are a call."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": _Surprise(command)}, protocol=2))
        archive.writestr("archive/version", b"3\n")
    return body.getvalue()
