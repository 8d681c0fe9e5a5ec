"""One tool, asked about one file after another: `probe.py TOOL`, paths on stdin, one line of JSON an answer.

Runs in the tool's own environment, imports nothing of fifomark but for fifomark, and never loads a file in a way that could run it.

What an answer says: `stops`, whether a careful user would stop here (the tool says that something is wrong, or cannot read the file);
`numbers`, whether it says that of the numbers in it; `why`; `seconds`. Each tool as its own command line decides:

picklescan   dangerous globals, or a scan error (exit codes 1 and 2)
modelscan    issues, errors, or no file that it supports (exit codes 1 to 3)
fickling     a severity above LIKELY_SAFE or an error; its command takes no archive: scan_zip_archive for those, scan_file for the rest
weights_only torch.load(weights_only=True) raises
fifomark     the verdict is invalid or unsafe
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator

Answer = tuple[bool, str]
Ask = Callable[[str], Answer]
MEMORY = 8 << 30


def picklescan() -> Ask:
    from picklescan.scanner import scan_file_path

    def ask(path: str) -> Answer:
        seen = scan_file_path(path)
        return seen.issues_count > 0 or seen.scan_err, f"{seen.issues_count} dangerous, error: {seen.scan_err}"

    return ask


def modelscan() -> Ask:
    from modelscan.modelscan import ModelScan

    def ask(path: str) -> Answer:
        seen = ModelScan().scan(path)
        issues, errors, scanned = seen["summary"]["total_issues"], len(seen["errors"]), seen["summary"]["scanned"]["total_scanned"]
        return bool(issues or errors or not scanned), f"{issues} issues, {errors} errors, {scanned} scanned"

    return ask


def fickling() -> Ask:
    from fickling.loader import scan_file, scan_zip_archive

    def ask(path: str) -> Answer:
        seen = list(scan_zip_archive(path, graceful=True).values()) if zipfile.is_zipfile(path) else [scan_file(path, graceful=True)]
        return not seen or not all(seen), ", ".join(result.severity.name for result in seen)

    return ask


def weights_only() -> Ask:
    import torch

    def ask(path: str) -> Answer:
        torch.load(path, weights_only=True, map_location="cpu")
        return False, "loaded"

    return ask


def fifomark() -> Ask:
    from fifomark.sanitizer.sanitizer import Sanitizer

    sanitizer = Sanitizer().__enter__()

    def ask(path: str) -> Answer:
        seen = sanitizer.inspect(path)
        return seen.verdict.refuses, ", ".join(finding.code for finding in seen.findings)

    return ask


TOOLS = {tool.__name__: tool for tool in (picklescan, modelscan, fickling, weights_only, fifomark)}


def answers(ask: Ask, paths: Iterator[str]) -> Iterator[dict[str, object]]:
    for path in paths:
        started = time.perf_counter()
        try:
            stops, why = ask(path)
        except BaseException as e:  # a tool that falls over lets nothing through either
            stops, why = True, f"{type(e).__name__}: {str(e)[:200]}"
        yield {"stops": stops, "why": why, "seconds": time.perf_counter() - started}


def main(tool: str) -> None:
    warnings.simplefilter("ignore")
    said = sys.stdout
    if tool != "fifomark":  # it has limits of its own
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.redirect_stdout(io.StringIO()):  # the answers are all that is said
        ask = TOOLS[tool]()
        for answer in answers(ask, (line.rstrip("\n") for line in sys.stdin)):
            print(json.dumps(answer), file=said, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
