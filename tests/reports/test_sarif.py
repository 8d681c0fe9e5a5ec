"""SARIF 2.1.0, checked by the standard's own words: no package that could bring its JSON schema here is well kept, so the parts that we
write are written down below, closed, with what the standard requires of each."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema
import msgspec
import pytest

from fifomark.core.catalogue import RULES, find
from fifomark.core.findings import Finding, Level, verdict_of
from fifomark.core.inspection import Inspection
from fifomark.reports import sarif

URI_REFERENCE = r"^[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+$"  # RFC 3986


def closed(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


def listed(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


TEXT = {"type": "string", "minLength": 1}
WORDS = closed("text", text=TEXT)  # §3.11.8, §3.12.3: not empty
LEVEL = {"enum": ["none", "note", "warning", "error"]}  # §3.27.10
INDEX = {"type": "integer", "minimum": 0}
BAG = {"type": "object"}  # §3.8
LOCATION = closed("uri", uri={"type": "string", "pattern": URI_REFERENCE}, uriBaseId=TEXT, index=INDEX)  # §3.4
RULE = closed(  # §3.49
    "id name shortDescription help defaultConfiguration",
    id={"type": "string", "pattern": r"^FM[1-5]\d\d$"},
    name={"type": "string", "pattern": "^[A-Z][A-Za-z0-9]*$"},
    shortDescription=WORDS,
    fullDescription=WORDS,
    help=WORDS,
    defaultConfiguration=closed("level", level=LEVEL),
    properties=BAG,
)
ARTIFACT = closed(  # §3.24
    "location roles",
    location=LOCATION,
    roles=listed({"const": "analysisTarget"}),
    length=INDEX,
    hashes=closed("sha-256", **{"sha-256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}),
    properties=BAG,
)
PHYSICAL = closed("artifactLocation", artifactLocation=LOCATION, region=closed("startLine", startLine={"type": "integer", "minimum": 1}))
PLACE = closed("physicalLocation", physicalLocation=PHYSICAL, logicalLocations=listed(closed("name", name=TEXT, fullyQualifiedName=TEXT)))
RESULT = closed(  # §3.27
    "ruleId ruleIndex level message locations partialFingerprints",
    ruleId=TEXT,
    ruleIndex=INDEX,
    level=LEVEL,
    message=WORDS,
    locations=listed(PLACE, minItems=1, maxItems=1),
    partialFingerprints={"type": "object", "minProperties": 1, "additionalProperties": TEXT},
    properties=BAG,
)
RUN = closed(  # §3.14
    "tool",
    tool=closed("driver", driver=closed("name version rules", name=TEXT, version=TEXT, rules=listed(RULE, uniqueItems=True))),
    originalUriBaseIds={"type": "object", "additionalProperties": closed("", description=WORDS)},
    artifacts=listed(ARTIFACT, uniqueItems=True),
    results=listed(RESULT),
)
LOG = closed("version runs", **{"$schema": {"type": "string"}}, version={"const": "2.1.0"}, runs=listed(RUN, minItems=1, maxItems=1))


def seen(*findings: Finding, sha256: str | None = "0" * 64, size: int | None = 7) -> Inspection:
    return Inspection(
        path="as shown",
        verdict=verdict_of(findings),
        container="zip",
        form=None,
        family=None,
        findings=findings,
        weights=None,
        would_run=(),
        size=size,
        sha256=sha256,
    )


def run_of(*inspected: tuple[str, Inspection]) -> dict[str, Any]:
    """The one run of the log as a reader gets it: through JSON, and checked."""
    log = msgspec.json.decode(msgspec.json.encode(sarif.log(inspected)))
    jsonschema.Draft202012Validator(LOG).validate(log)
    (run,) = log["runs"]
    for result in run["results"]:
        location = result["locations"][0]["physicalLocation"]["artifactLocation"]
        artifact = run["artifacts"][location.pop("index")]
        assert artifact["location"] == location  # §3.4.5: both denote the same artifact
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]  # §3.27.6
        assert location.get("uriBaseId") in (*run["originalUriBaseIds"], None)
    return run  # type: ignore[no-any-return]


def test_every_code_that_an_inspection_may_carry_is_a_rule_and_gives_a_result() -> None:
    codes = [code for code in RULES if code[:3] not in ("FM6", "FM7")]
    run = run_of(("a.pt", seen(*(find(code, "the file", "is bad", evidence="this") for code in codes))))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == codes
    assert [result["ruleId"] for result in run["results"]] == codes


@pytest.mark.parametrize(
    ("level", "expected"),
    [(Level.NOTE, "note"), (Level.WARNING, "warning"), (Level.INVALID, "error"), (Level.UNSAFE, "error")],
)
def test_our_levels_become_those_of_sarif_and_ours_stays_in_the_properties(level: Level, expected: str) -> None:
    (result,) = run_of(("a.pt", seen(find("FM206", "the root", "left out", level=level))))["results"]
    assert (result["level"], result["properties"]["level"]) == (expected, level)
    assert result["properties"]["sha256"] == "0" * 64


def test_a_clean_file_is_an_artifact_without_a_result() -> None:
    run = run_of(("models/a.pt", seen()))
    assert run["results"] == []
    assert run["artifacts"] == [
        {
            "location": {"uri": "models/a.pt", "uriBaseId": "%SRCROOT%"},
            "roles": ["analysisTarget"],
            "length": 7,
            "hashes": {"sha-256": "0" * 64},
            "properties": {"verdict": "clean", "container": "zip"},
        }
    ]


def test_each_result_leads_to_its_own_file() -> None:
    empty, large = seen(find("FM105", "the file", "is empty")), seen(find("FM110", "the file", "is large"))
    results = run_of(("a.pt", empty), ("b.pt", seen()), ("c.pt", large))["results"]
    places = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results]
    assert list(zip(places, (result["ruleId"] for result in results), strict=True)) == [("a.pt", "FM105"), ("c.pt", "FM110")]


def test_what_could_not_be_read_has_neither_size_nor_hash() -> None:
    (artifact,) = run_of(("a.pt", seen(find("FM104", "the file", "cannot be opened"), sha256=None, size=None)))["artifacts"]
    assert not {"length", "hashes"} & set(artifact)


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.pt", b"a\nb.pt", b"\x1b[31mred.pt", b"http://x?y#z.pt", b"50%.pt", "größe 模.pt".encode(), b"-.pt"]
)
def test_a_name_of_any_bytes_is_a_valid_uri_that_leads_back_to_it(name: bytes) -> None:
    for path in (name, b"/models/" + name):
        (result,) = run_of((os.fsdecode(path), seen(find("FM105", os.fsdecode(name), "is empty"))))["results"]
        location = result["locations"][0]["physicalLocation"]["artifactLocation"]
        said = unquote_to_bytes(location["uri"].removeprefix("file://"))
        assert said == re.sub(b"/+", b"/", path)
        assert location["uri"].startswith("file:///") is path.startswith(b"/")
        assert ":" not in location["uri"].removeprefix("file:///")  # what is no scheme must not look like one


def test_dots_in_a_path_are_resolved_where_the_links_are(tmp_path: Path) -> None:
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far/deep")
    (artifact,) = run_of((f"{tmp_path}/near/../a.pt", seen()))["artifacts"]
    assert artifact["location"] == {"uri": f"file://{tmp_path}/far/a.pt"}


def test_words_of_strangers_are_no_placeholder_no_link_and_no_command_for_a_terminal() -> None:
    finding = find("FM206", "the root\x1b[2J", "left out: {0} [here](http://x.example)", evidence="{}\n")
    (result,) = run_of(("a.pt", seen(finding)))["results"]
    text = result["message"]["text"]
    assert re.search(r"(?<!\{)(\{\{)*\{\d", text) is None
    assert "](" not in text
    assert text.isprintable()


def test_a_message_says_where_what_what_was_seen_and_what_to_do() -> None:
    finding = find("FM401", "fc.weight", "2 values are NaN", evidence="the first at 7", advice="Train again.")
    (result,) = run_of(("a.pt", seen(finding)))["results"]
    assert result["message"]["text"] == "fc.weight: 2 values are NaN. Seen: the first at 7. Train again."
    assert result["locations"][0]["logicalLocations"] == [{"name": "fc.weight", "fullyQualifiedName": "fc.weight"}]


def test_what_the_message_says_already_is_not_said_twice() -> None:
    (result,) = run_of(("a.pt", seen(find("FM201", "data.pkl", "would run os.system('x')", evidence="os.system('x')"))))["results"]
    assert result["message"]["text"].count("os.system") == 1


def prints(*findings: Finding, path: str = "a.pt") -> list[str]:
    return [next(iter(result["partialFingerprints"].values())) for result in run_of((path, seen(*findings)))["results"]]


def test_a_fingerprint_stays_when_file_and_numbers_change_and_tells_findings_apart() -> None:
    before, after = find("FM406", "fc.weight", "3 of 10 units"), find("FM406", "fc.weight", "4 of 12 units")
    assert prints(before) == prints(after, path="/elsewhere/b.pt")
    different = prints(before, find("FM406", "out.weight", "3 of 10 units"), find("FM404", "fc.weight", "3 of 10 units"), after)
    assert len(set(different)) == 4


def test_the_same_files_give_the_same_bytes_and_one_that_is_named_twice_counts_once() -> None:
    inspected = [("a.pt", seen(find("FM105", "the file", "is empty"))), ("b.pt", seen())]
    first, again = (msgspec.json.encode(sarif.log(files)) for files in (inspected, [*inspected, ("./a.pt", inspected[0][1])]))
    assert first == again
