"""Inspections as one SARIF 2.1.0 log, the format that code scanners and their viewers exchange.

The same files give the same bytes: there are no times, hosts or absolute folders in it, unless a file was named by such a path.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fifomark
from fifomark.core.catalogue import RULES, Rule
from fifomark.core.findings import Finding, Level
from fifomark.core.inspection import Inspection

VERSION = "2.1.0"
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_BASE = "%SRCROOT%"  # what viewers commonly call the folder that relative paths start from
_FINGERPRINT = "fifomark/v1"
_LEVELS = {Level.NOTE: "note", Level.WARNING: "warning", Level.INVALID: "error", Level.UNSAFE: "error"}
# FM6xx and FM7xx come from marking, of which an inspection knows nothing.
_CODES = tuple(code for code in RULES if code[:3] not in ("FM6", "FM7"))

Json = dict[str, Any]


def log(inspected: Iterable[tuple[str | os.PathLike[str], Inspection]]) -> Json:
    """The log of one run over `inspected`: each file's path as it was given, and what was seen. A path that comes twice counts once.

    Every file is an artifact; every finding is a result, in the order of the files and of their findings.
    """
    artifacts: dict[str, Json] = {}
    results: list[Json] = []
    for path, seen in inspected:
        location = _location(path)
        if location["uri"] not in artifacts:
            at = {**location, "index": len(artifacts)}
            artifacts[location["uri"]] = _artifact(location, seen)
            results += _results(at, seen)
    driver = {"name": "fifomark", "version": fifomark.__version__, "rules": [_rule(code, RULES[code]) for code in _CODES]}
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {_BASE: {"description": {"text": "The folder that fifomark was run in."}}},
        "artifacts": list(artifacts.values()),
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": VERSION, "runs": [run]}


def _rule(code: str, rule: Rule) -> Json:
    words = re.findall(r"\w+", rule.title.partition(":")[0])
    title = rule.title[0].upper() + rule.title[1:] + "."
    return {
        "id": code,
        "name": "".join(word[0].upper() + word[1:] for word in words),
        "shortDescription": {"text": _text(title)},
        "fullDescription": {"text": _text(f"{title} {rule.advice}")},
        "help": {"text": _text(rule.advice)},
        "defaultConfiguration": {"level": _LEVELS[rule.level]},
        "properties": {"level": rule.level},
    }


def _location(path: str | os.PathLike[str]) -> Json:
    """The path as a URI reference, whatever bytes its name is made of."""
    named = Path(path)
    if ".." in named.parts:
        named = Path(os.path.realpath(named))  # where `..` leads depends on links, which a reader of the log may not have
    escaped = quote(os.fsencode(named))
    return {"uri": f"file:///{escaped.lstrip('/')}"} if named.is_absolute() else {"uri": escaped, "uriBaseId": _BASE}


def _artifact(location: Json, seen: Inspection) -> Json:
    facts = {
        "verdict": seen.verdict,
        "container": seen.container,
        "form": seen.form,
        "family": seen.family.name if seen.family else None,
    }
    artifact: Json = {"location": location, "roles": ["analysisTarget"]}
    if seen.size is not None:
        artifact["length"] = seen.size
    if seen.sha256 is not None:
        artifact["hashes"] = {"sha-256": seen.sha256}
    return {**artifact, "properties": {name: fact for name, fact in facts.items() if fact is not None}}


def _results(location: Json, seen: Inspection) -> Iterable[Json]:
    alike: Counter[str] = Counter()
    for finding in seen.findings:
        fingerprint = _fingerprint(finding)
        alike[fingerprint] += 1
        properties = {"level": finding.level, "verdict": seen.verdict, "advice": finding.advice}
        yield {
            "ruleId": finding.code,
            "ruleIndex": _CODES.index(finding.code),
            "level": _LEVELS[finding.level],
            "message": {"text": _message(finding)},
            "locations": [
                {
                    # Viewers will have a line, though a model has none: the first stands for the file.
                    "physicalLocation": {"artifactLocation": location, "region": {"startLine": 1}},
                    "logicalLocations": [{"name": finding.where, "fullyQualifiedName": finding.where}],
                }
            ],
            "partialFingerprints": {_FINGERPRINT: f"{fingerprint}:{alike[fingerprint]}"},
            "properties": properties if seen.sha256 is None else {**properties, "sha256": seen.sha256},
        }


def _message(finding: Finding) -> str:
    """Where and what, what was seen, and what to do: sentences, since viewers show the first one alone in their lists."""
    said = [f"{finding.where}: {finding.message}", finding.advice]
    if finding.evidence and finding.evidence not in finding.message:
        said.insert(1, f"Seen: {finding.evidence}")
    return _text(" ".join(sentence if sentence.endswith(".") else f"{sentence}." for sentence in said))


def _text(words: str) -> str:
    """`words` as a plain text message, in which braces are placeholders and `[…](…)` a link: a stranger's words are to be neither."""
    return words.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _fingerprint(finding: Finding) -> str:
    """Equal for the same finding in a later version of the file: numbers, which every training changes, are left out."""
    said = "\0".join((finding.code, finding.where, re.sub(r"\d+", "#", finding.message)))
    return hashlib.sha256(said.encode()).hexdigest()[:32]
