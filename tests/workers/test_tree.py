from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from fifomark.workers.tree import below


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_a_process_that_goes_while_it_is_looked_at_has_started_nothing(error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    def going(real: Callable[[object], object]) -> Callable[[object], object]:
        def look(path: object = ".") -> object:
            if str(path).endswith("/task"):
                raise error(2, "gone", path)
            return real(path)

        return look

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, going(getattr(os, name)))
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert below(process.pid) == []
        finally:
            process.kill()


def test_what_a_process_has_started_is_found() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as process:
        try:
            while not below(process.pid):
                assert process.poll() is None
            assert [child.name() for child in below(process.pid)] in (["sleep"], ["sh"])
        finally:
            os.killpg(process.pid, 9)
