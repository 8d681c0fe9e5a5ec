"""Asking a tool about files, one after another, in a process of its own."""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any

PROBE = Path(__file__).parent / "probe.py"
ROOT = Path(__file__).parents[3]


class Probe:
    """A tool that is asked about files; started anew where one of them takes too long or ends it. What it leaves goes to `folder`."""

    def __init__(self, tool: str, python: Path, limit: float, folder: Path) -> None:
        self._tool, self._python, self._limit, self._folder = tool, python, limit, folder
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, path: Path) -> dict[str, Any]:
        if self._process is None:
            env = {**os.environ, "PYTHONPATH": str(ROOT)} if self._tool == "fifomark" else dict(os.environ)
            command = [str(self._python), str(PROBE), self._tool]
            pipe, null = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, env=env, cwd=self._folder)
            self._answer(ROOT / "README.md", 120)  # the first answer has the imports in it
        return self._answer(path, self._limit)

    def _answer(self, path: Path, limit: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        line = process.stdout.readline() if select.select([process.stdout], [], [], limit)[0] else None
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        if line is None:
            return {"stops": False, "why": "no answer in time", "seconds": limit}
        return {"stops": True, "why": "the process ended", "seconds": 0.0}

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
