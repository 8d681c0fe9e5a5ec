"""Asks one scanner about every file of a folder: scanner_runner.py SCANNER FOLDER. Prints a JSON line a file: [name, noticed, seconds].

Each file is read by a forked child with limits; one that hangs or dies of a file has not noticed it. Nothing is ever unpickled in earnest.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

SECONDS = 30
MEMORY = 6 << 30


def picklescan() -> Callable[[Path], bool]:
    from picklescan.scanner import scan_file_path

    def noticed(path: Path) -> bool:
        """As its command ends with an exit code other than 0: something dangerous, or an error."""
        seen = scan_file_path(str(path))
        return bool(seen.issues_count or seen.scan_err)

    return noticed


def modelscan() -> Callable[[Path], bool]:
    from modelscan.modelscan import ModelScan
    from modelscan.settings import DEFAULT_SETTINGS

    def noticed(path: Path) -> bool:
        """As its command ends with an exit code other than 0: an issue, an error, or nothing that it could scan."""
        scan = ModelScan(settings=DEFAULT_SETTINGS)
        scan.scan(str(path))
        return bool(scan.issues.all_issues or scan.errors or not scan.scanned)

    return noticed


def fickling() -> Callable[[Path], bool]:
    from zipfile import ZipFile, is_zipfile

    from fickling.analysis import Severity, check_safety
    from fickling.fickle import StackedPickle

    def noticed(path: Path) -> bool:
        """Its command reads no zip: it is given every pickle of one. More than "likely safe", or an error."""
        bodies = [path.read_bytes()]
        if is_zipfile(path):
            with ZipFile(path) as archive:
                bodies = [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
        pickles = [one for body in bodies for one in StackedPickle.load(body)]
        return not pickles or any(check_safety(one).severity > Severity.LIKELY_SAFE for one in pickles)

    return noticed


def weights_only() -> Callable[[Path], bool]:
    import torch

    def noticed(path: Path) -> bool:
        """Whether torch refuses it."""
        torch.load(path, weights_only=True, map_location="cpu")
        return False

    return noticed


def _child(noticed: Callable[[Path], bool], path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        found = noticed(path)
    except (MemoryError, RecursionError):
        os._exit(2)
    except BaseException:
        found = True  # an error is a word of warning, too
    os._exit(int(found))


def _asked(noticed: Callable[[Path], bool], path: Path) -> bool:
    pid = os.fork()
    if pid == 0:
        _child(noticed, path)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 1
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    noticed = {"picklescan": picklescan, "modelscan": modelscan, "fickling": fickling, "weights_only": weights_only}[sys.argv[1]]()
    for path in sorted(Path(sys.argv[2]).iterdir()):
        start = time.perf_counter()
        found = _asked(noticed, path)
        print(json.dumps([path.name, found, time.perf_counter() - start]), flush=True)


if __name__ == "__main__":
    main()
