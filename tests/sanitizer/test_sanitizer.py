"""From a path to an inspection: what refuses a file, what is dropped, and what is left behind."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import builders
import msgspec
import pytest
import torch
from judged import codes
from loading import loaded

from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding, Level, Verdict
from fifomark.core.inspection import Inspection
from fifomark.core.policy import Limits, Policy
from fifomark.sanitizer.answering import answered, warm_up
from fifomark.sanitizer.messages import Item, Request
from fifomark.sanitizer.opening import open_submission
from fifomark.sanitizer.parser_client import ParserClient
from fifomark.sanitizer.publishing import Publication
from fifomark.sanitizer.sanitizer import Sanitizer
from fifomark.torchfile import sample
from fifomark.torchfile.description import Description, Problem

DISARM = Policy(on_unsafe="disarm")


# What refuses a file


def test_code_is_unsafe_and_leaves_nothing(inspect: Callable[..., Inspection], tmp_path: Path, clean: Path) -> None:
    seen = inspect(builders.unsafe(tmp_path / "RAN"))
    assert (seen.verdict, codes(seen), seen.clean) == (Verdict.UNSAFE, ["FM201", "FM206"], None)
    assert seen.would_run == (f"posix.system('touch {tmp_path / 'RAN'}')",)
    assert os.listdir(clean.parent) == []
    assert not (tmp_path / "RAN").exists()


def test_disarming_takes_the_weights_and_says_so(
    sanitizer: Sanitizer, inspect: Callable[..., Inspection], tmp_path: Path, clean: Path
) -> None:
    seen = inspect(builders.unsafe(tmp_path / "RAN"), policy=DISARM)
    assert (seen.verdict, codes(seen)) == (Verdict.FLAGGED, ["FM201", "FM210", "FM206"])
    assert seen.would_run
    assert list(loaded(clean)) == ["weight", "bias"]
    assert sanitizer.inspect(clean).verdict is Verdict.CLEAN
    assert not (tmp_path / "RAN").exists()


def test_disarming_does_not_help_where_there_are_no_weights(inspect: Callable[..., Inspection], tmp_path: Path) -> None:
    only_code = builders.archive(builders.pickled(builders.touch(tmp_path / "RAN")), {})
    assert inspect(only_code, policy=DISARM).verdict is Verdict.UNSAFE


def test_disarming_does_not_let_an_ambiguous_archive_through(inspect: Callable[..., Inspection]) -> None:
    seen = inspect(builders.logistic() + builders.logistic(1), policy=DISARM)
    assert (seen.verdict, seen.clean) == (Verdict.UNSAFE, None)
    assert "FM109" in codes(seen)


@pytest.mark.parametrize(("value", "code"), [(float("nan"), "FM401"), (float("inf"), "FM402"), (float("-inf"), "FM402")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
def test_values_that_are_no_numbers_refuse_the_file(
    inspect: Callable[..., Inspection], clean: Path, value: float, code: str, dtype: torch.dtype
) -> None:
    broken = torch.ones(4, 5)
    broken[0, 0] = 2
    broken[2, 3] = value
    seen = inspect({"good": torch.ones(3), "bad": broken.to(dtype), "tied": torch.ones(2)})
    assert (seen.verdict, codes(seen)) == (Verdict.INVALID, [code])
    assert (seen.findings[0].where, seen.findings[0].evidence) == ("bad", "bad: 1, the first at flat index 13")
    assert os.listdir(clean.parent) == []


def test_a_wrong_checksum_refuses_the_file(inspect: Callable[..., Inspection], clean: Path) -> None:
    data = bytearray(builders.logistic())
    at = data.index(builders.floats(640))
    data[at] ^= 1
    seen = inspect(bytes(data))
    assert (seen.verdict, codes(seen)) == (Verdict.INVALID, ["FM111"])
    assert os.listdir(clean.parent) == []


@pytest.mark.parametrize(
    ("name", "verdict"), [("x.pt", Verdict.CLEAN), ("x.PT", Verdict.INVALID), ("x.pth", Verdict.INVALID), ("pt", Verdict.INVALID)]
)
def test_the_extension_is_that_of_the_name_it_was_dropped_under(inspect: Callable[..., Inspection], name: str, verdict: Verdict) -> None:
    seen = inspect(builders.logistic(), name=name)
    assert seen.verdict is verdict
    assert codes(seen) == ([] if verdict is Verdict.CLEAN else ["FM101"])
    assert seen.weights is not None


def test_a_wrong_extension_is_reported_beside_the_rest(inspect: Callable[..., Inspection]) -> None:
    assert codes(inspect(b"I am not a model\n", name="x.txt")) == ["FM101", "FM106"]


def test_what_is_no_model_is_told_what_it_is(inspect: Callable[..., Inspection]) -> None:
    seen = inspect(b"I am not a model\n")
    assert (seen.verdict, seen.container, codes(seen)) == (Verdict.INVALID, None, ["FM106"])
    assert "text" in seen.findings[0].message
    assert seen.sha256 == hashlib.sha256(b"I am not a model\n").hexdigest()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_said_so(inspect: Callable[..., Inspection], share: float) -> None:
    whole = builders.logistic()
    assert codes(inspect(whole[: int(len(whole) * share)])) == ["FM107"]


def test_a_file_that_is_too_large_is_not_read(inspect: Callable[..., Inspection]) -> None:
    seen = inspect(builders.logistic(), limits=Limits(file_bytes=1000))
    assert (codes(seen), seen.sha256, seen.size) == (["FM110"], None, len(builders.logistic()))


def test_a_large_sparse_file_without_weights_is_answered_at_once_and_not_hashed(sanitizer: Sanitizer, tmp_path: Path) -> None:
    with (tmp_path / "sparse.pt").open("wb") as file:
        file.truncate(6 << 30)
    started = time.monotonic()
    seen = sanitizer.inspect(tmp_path / "sparse.pt")
    assert (seen.verdict, codes(seen), seen.sha256, seen.size) == (Verdict.INVALID, ["FM106"], None, 6 << 30)
    assert time.monotonic() - started < 10


def test_a_path_that_cannot_be_opened_is_a_value(sanitizer: Sanitizer, tmp_path: Path) -> None:
    (tmp_path / "link.pt").symlink_to("/etc/passwd")
    for path, code in ((tmp_path / "link.pt", "FM102"), (tmp_path / "nobody.pt", "FM104"), (tmp_path, "FM102")):
        seen = sanitizer.inspect(path, name="x.pt")
        assert (seen.verdict, codes(seen), seen.sha256, seen.size) == (Verdict.INVALID, [code], None, None)


def test_any_bytes_may_be_a_path(sanitizer: Sanitizer, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\n\x1b[31m.pt"
    Path(os.fsdecode(path)).write_bytes(builders.logistic())
    seen = sanitizer.inspect(path)
    assert seen.verdict is Verdict.CLEAN
    assert b"\x1b" not in msgspec.json.encode(seen)


# What happens between opening a file and reading it, in this process and not in the writer's.


Describe = Callable[[Sequence[int], Limits], list[Description | Finding]]


def inspected(path: Path, clean: Path, meddle: Callable[[], object] = lambda: None, describe: Describe | None = None) -> Inspection:
    """The inspection of the file at `path`, where `meddle` is done after it was opened and described."""
    opened = open_submission(str(path))
    assert not isinstance(opened, Finding)
    parser = ParserClient()
    with opened as file, Publication(str(clean)) as out:
        seen = (describe or parser.describe)([file.fd], Limits())
        meddle()
        request = Request(
            items=(Item(path=str(path), version=file.version, findings=(), write=True),), policy=Policy(), limits=Limits(), format="pt"
        )
        (answer,) = answered(request, [file.fd, out.fd], seen)
    parser.close()
    assert answer.inspection is not None, answer.trouble
    return answer.inspection


def test_a_file_that_changes_under_the_reader_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(builders.logistic())

    def meddle() -> None:
        with path.open("r+b") as file:
            file.write(b"PK")
        os.utime(path, ns=(5, 5))

    seen = inspected(path, tmp_path / "clean", meddle)
    assert (seen.verdict, codes(seen), seen.clean) == (Verdict.INVALID, ["FM113"], None)


def test_a_file_that_shrinks_under_the_reader_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    seen = inspected(tmp_path / "a.pt", tmp_path / "clean", lambda: os.truncate(tmp_path / "a.pt", 500))
    assert (seen.verdict, codes(seen), seen.clean) == (Verdict.INVALID, ["FM113"], None)


# Hostile structure, through the real parser


def test_a_tensor_outside_its_storage_is_unsafe(inspect: Callable[..., Inspection]) -> None:
    body = builders.ordered_dict((builders.text("w"), builders.tensor("0", (100,), offset=1)))
    assert codes(inspect(builders.archive(builders.pickled(body), {"0": bytes(400)}))) == ["FM301"]


def test_a_view_of_forty_gigabytes_in_two_kilobytes_is_refused(inspect: Callable[..., Inspection]) -> None:
    seen = inspect({"w": torch.zeros(1).expand(100_000, 100_000)})
    assert (seen.verdict, codes(seen), seen.weights) == (Verdict.INVALID, ["FM302"], None)


def test_a_storage_dragged_along_by_a_slice_is_left_behind(inspect: Callable[..., Inspection], clean: Path) -> None:
    seen = inspect({"w": torch.eye(1000)[:2, :2]})
    assert (seen.verdict, codes(seen)) == (Verdict.CLEAN, ["FM303"])
    assert "3,999,984 bytes" in seen.findings[0].message
    assert clean.stat().st_size < 2000


def test_a_record_that_nothing_refers_to_is_left_behind(inspect: Callable[..., Inspection], clean: Path) -> None:
    body = builders.ordered_dict((builders.text("w"), builders.tensor("0", (1,))))
    seen = inspect(builders.archive(builders.pickled(body), {"0": bytes(4)}, extra={"archive/run.exe": b"MZ-payload"}))
    assert (seen.verdict, codes(seen)) == (Verdict.CLEAN, ["FM112"])
    assert b"MZ-payload" not in clean.read_bytes()


def test_keys_that_hash_for_ever_are_stopped(sanitizer: Sanitizer, tmp_path: Path) -> None:
    nested = b")" + b"".join(b"2\x86" for _ in range(60))  # a tuple of itself twice, sixty times over
    (tmp_path / "a.pt").write_bytes(builders.archive(builders.pickled(b"}" + nested + b"Ns"), {}))
    seen = sanitizer.inspect(tmp_path / "a.pt", limits=Limits(parse_seconds=0.5))
    assert (seen.verdict, codes(seen)) == (Verdict.UNSAFE, ["FM208"])
    assert "0.5 seconds" in seen.findings[0].message


def test_a_memo_of_sixty_four_gigabytes_is_refused(inspect: Callable[..., Inspection]) -> None:
    seen = inspect(builders.archive(builders.pickled(b"Nr\xff\xff\xff\xff"), {}))
    assert (seen.verdict, codes(seen)) == (Verdict.UNSAFE, ["FM208"])


def test_two_hundred_inspections_leak_nothing(sanitizer: Sanitizer, tmp_path: Path) -> None:
    kinds = {"good": builders.logistic(), "bad": builders.unsafe(tmp_path / "RAN"), "none": b"text", "cut": builders.logistic()[:900]}
    for name, data in kinds.items():
        (tmp_path / f"{name}.pt").write_bytes(data)
    before = len(os.listdir("/proc/self/fd"))
    for i in range(200):
        sanitizer.inspect(tmp_path / f"{list(kinds)[i % 4]}.pt", clean_to=str(tmp_path / "out.clean"))
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(tmp_path)) == ["bad.pt", "cut.pt", "good.pt", "none.pt", "out.clean"]


# Our own side


def test_findings_come_worst_first_then_by_code(inspect: Callable[..., Inspection], tmp_path: Path) -> None:
    seen = inspect(builders.unsafe(tmp_path / "RAN"), name="x.bin")
    assert [(finding.level, finding.code) for finding in seen.findings] == [
        (Level.UNSAFE, "FM201"),
        (Level.INVALID, "FM101"),
        (Level.NOTE, "FM206"),
    ]


def test_a_clean_file_that_cannot_be_written_is_the_callers_error(sanitizer: Sanitizer, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    with pytest.raises(FileNotFoundError):
        sanitizer.inspect(tmp_path / "a.pt", clean_to=str(tmp_path / "nowhere" / "b.pt"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        sanitizer.inspect(tmp_path / "a.pt", clean_to=str(tmp_path / "folder"))
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "folder"]


def test_a_clean_file_that_cannot_be_made_to_last_is_told_with_its_name_and_is_gone(
    sanitizer: Sanitizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.pt").write_bytes(builders.logistic())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'b.pt'}'"):
        sanitizer.inspect(tmp_path / "a.pt", clean_to=str(tmp_path / "b.pt"))
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_parser_that_cannot_be_started_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(InternalError, match="cannot be started"), Sanitizer():
        pass


def test_a_writer_that_cannot_read_even_its_own_file_says_why_and_what_to_do() -> None:
    stopped = find("FM208", "the file", "reading it was stopped")
    source = sample.opened()
    with pytest.raises(InternalError, match=r"reading it was stopped.*ulimit"):
        warm_up(source, stopped)
    os.close(source)


def test_a_parser_that_lies_about_codes_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(builders.logistic())

    def lying(fds: Sequence[int], limits: Limits) -> list[Description | Finding]:
        parser = ParserClient()
        (seen,) = parser.describe(fds, limits)
        parser.close()
        return [msgspec.structs.replace(seen, problems=(Problem(code="FM299", where="", message=""),))]

    assert codes(inspected(tmp_path / "a.pt", tmp_path / "clean", describe=lying)) == ["FM208"]


def test_an_inspection_survives_the_way_to_another_process(inspect: Callable[..., Inspection], tmp_path: Path) -> None:
    seen = inspect(builders.unsafe(tmp_path / "RAN"), policy=DISARM)
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Inspection) == seen


def test_a_clean_file_is_made_to_last_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename"), rename(a, b)))
    with Publication(str(tmp_path / "clean.pt")) as target:
        os.write(target.fd, b"weights")
        target.publish()
    assert done == ["fsync", "rename"]
    assert (tmp_path / "clean.pt").read_bytes() == b"weights"
