from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import builders
import numpy as np
import pytest

from fifomark.spool.layout import Layout
from fifomark.spool.spool import drop

FIFOMARK = str(Path(sys.executable).parent / "fifomark")


def run(*args: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FIFOMARK, *map(str, args)], capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})}, cwd=cwd, check=False
    )


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    assert run("init", tmp_path / "spool").returncode == 0
    return tmp_path / "spool"


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    (tmp_path / "ada.pt").write_bytes(builders.logistic())
    return tmp_path / "ada.pt"


@pytest.mark.parametrize(
    "arguments",
    [
        "['status', '--spool', {spool!r}]",
        "['status', '--json', '--spool', {spool!r}]",
        "['--help']",
        "['inspect', {ada!r}]",
        "['sanitize', {ada!r}, '-o', {ada!r} + '.clean']",
        "['submit', {ada!r}, '--spool', {spool!r}]",
        "['leaderboard', '--spool', {spool!r}]",
    ],
)
def test_no_command_but_the_marking_loads_torch(spool: Path, ada: Path, arguments: str) -> None:
    code = (
        "import sys\nfrom fifomark.cli.main import main\n"
        f"code = main({arguments.format(spool=str(spool), ada=str(ada))})\n"
        "assert 'torch' not in sys.modules and 'torchmetrics' not in sys.modules\nassert code == 0, code"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_spool_that_is_none_is_named_with_the_next_step(tmp_path: Path) -> None:
    for verb in ("status", "drain", "serve", "leaderboard"):
        done = run(verb, "--spool", tmp_path / "nothing")
        assert (done.returncode, "fifomark init" in done.stderr) == (2, True), verb
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["nope"], ["inspect"], ["inspect", "--nope", "x"], ["inspect", "--format", "nope", "x"], []])
def test_wrong_usage_is_said_without_a_traceback(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


@pytest.mark.parametrize("extension", ["", ".", "pt"])
def test_an_extension_that_is_none_is_told_what_to_write(ada: Path, extension: str) -> None:
    for done in (run("inspect", ada, "--extension", extension), run("sanitize", ada, "-o", ada.with_name("x"), "--extension", extension)):
        assert (done.returncode, done.stdout) == (2, "")
        assert "--extension .pt" in done.stderr


def test_json_and_another_format_is_wrong_usage(spool: Path, ada: Path) -> None:
    for arguments in (["inspect", ada, "--format", "sarif"], ["leaderboard", "--format", "csv", "--spool", spool]):
        done = run(*arguments, "--json")
        assert (done.returncode, done.stdout) == (2, "")
        assert "say one of them" in done.stderr
    assert json.loads(run("inspect", ada, "--format", "json", "--json").stdout)["verdict"] == "clean"


def test_a_broken_settings_file_stops_the_start_with_file_key_and_what_was_meant(spool: Path) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text(settings.read_text().replace("settle_seconds", "settle_second"))
    done = run("drain", "--spool", spool)
    assert done.returncode == 2
    assert f"{settings}: settle_second: unknown key (did you mean 'settle_seconds'?)" in done.stderr


def test_a_broken_rubric_stops_the_start_with_file_key_and_what_was_meant(spool: Path) -> None:
    rubric = spool / "rubrics/digits/rubric.toml"
    rubric.write_text(rubric.read_text().replace("num_classes", "num_clases"))
    done = run("drain", "--spool", spool)
    assert done.returncode == 2
    assert str(rubric) in done.stderr
    assert "task.num_clases" in done.stderr
    assert "did you mean 'num_classes'?" in done.stderr


def test_init_twice_keeps_what_is_there(spool: Path) -> None:
    (spool / "incoming/a.pt").write_bytes(b"x")
    assert run("init", spool).returncode == 0
    assert (spool / "incoming/a.pt").exists()


def test_init_leaves_a_folder_with_other_things_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    done = run("init", tmp_path)
    assert done.returncode == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def test_submit_drops_the_file_whole_and_not_over_another(spool: Path, ada: Path) -> None:
    assert run("submit", ada, "--spool", spool).returncode == 0
    assert (spool / "incoming/ada.pt").read_bytes() == ada.read_bytes()
    again = run("submit", ada, "--spool", spool)
    assert (again.returncode, "waiting already" in again.stderr) == (2, True)
    assert run("submit", ada, "--rubric", "digits", "--spool", spool).returncode == 0
    assert (spool / "incoming/digits/ada.pt").exists()
    assert run("submit", ada, "--rubric", "nope", "--spool", spool).returncode == 2
    assert run("submit", ada.parent / "nobody.pt", "--spool", spool).returncode == 2


def test_the_spool_may_be_named_by_the_environment(spool: Path) -> None:
    assert json.loads(run("status", "--json", env={"FIFOMARK_SPOOL": str(spool)}).stdout)["spool"] == str(spool)


def test_a_report_of_nobody_says_so(spool: Path) -> None:
    done = run("report", "nobody", "--spool", spool)
    assert (done.returncode, "nothing was submitted" in done.stderr) == (2, True)


def test_output_that_nobody_reads_to_its_end_is_no_error(ada: Path) -> None:
    done = subprocess.run(
        f"{FIFOMARK} inspect {ada} {ada} --format json | head -c 1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_a_report_cannot_be_hidden_behind_another_name(spool: Path, ada: Path) -> None:
    for name in ("alice.pt", "1.pt"):
        (spool / "incoming" / name).write_bytes(ada.read_bytes())
        assert run("drain", "--spool", spool).returncode == 0
    (spool / "incoming/alice.pt.pt").write_bytes(ada.read_bytes())
    assert run("drain", "--spool", spool).returncode == 0
    for which in ("alice.pt", "1", "00000001"):
        assert json.loads(run("report", which, "--json", "--spool", spool).stdout)["id"] == 1
    assert run("report", "9" * 30, "--spool", spool).returncode == 2


@pytest.mark.parametrize("name", [".hidden.pt", "x.pt.part"])
def test_submit_refuses_a_name_that_would_never_be_taken(spool: Path, ada: Path, name: str) -> None:
    ada.with_name(name).write_bytes(ada.read_bytes())
    assert run("submit", ada.with_name(name), "--spool", spool).returncode == 2
    assert list((spool / "incoming").iterdir()) == []


def test_sanitize_replaces_nothing_but_a_regular_file(tmp_path: Path, ada: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        assert run("sanitize", ada, "-o", tmp_path / name, "--force").returncode == 2
    assert (tmp_path / "pipe").is_fifo()


def test_settings_that_are_no_file_or_make_no_sense_stop_the_start(spool: Path) -> None:
    settings = spool / "fifomark.toml"
    text = settings.read_text()
    for bad in (text.replace("settle_seconds = 0.2", "settle_seconds = inf"), text.replace('[".pt"]', "[]")):
        settings.write_text(bad)
        assert run("drain", "--spool", spool).returncode == 2
    settings.unlink()
    os.mkfifo(settings)
    done = run("drain", "--spool", spool)
    assert (done.returncode, "no regular file" in done.stderr) == (2, True)


def test_the_smallest_rubric_of_the_readme_works(spool: Path, tmp_path: Path, ada: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = (block for block in readme.split("```toml\n")[1:] if "[rubric]" in block)
    folder = spool / "rubrics/mine"
    folder.mkdir()
    np.savez(folder / "data.npz", x=np.zeros((20, 64), np.float32), y=np.arange(20) % 10)
    sha256 = hashlib.sha256((folder / "data.npz").read_bytes()).hexdigest()
    (folder / "rubric.toml").write_text(
        block.split("```")[0].replace("…", sha256, 1).replace('families = ["mlp"]', 'families = ["logistic"]')
    )
    (spool / "incoming/mine").mkdir()
    (spool / "incoming/mine/ada.pt").write_bytes(ada.read_bytes())
    done = run("drain", "--spool", spool)
    assert done.returncode == 0, done.stderr
    assert (spool / "done/00000001-ada.pt").exists()


def test_names_of_strangers_cannot_command_the_terminal(tmp_path: Path) -> None:
    bad = tmp_path / "\x1b[31mred\n.pt"
    bad.write_bytes(b"no model")
    done = run("inspect", bad)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert run("inspect", "--format", "json", bad).stdout.count("\n") == 1


STRANGE = "\x1b[31mred\nfifomark: all is well\x9b.pt"


def test_nor_can_they_in_messages(tmp_path: Path, ada: Path, spool: Path) -> None:
    strange = tmp_path / STRANGE
    said = [run("sanitize", ada, "-o", strange), run("sanitize", ada, "-o", strange)]  # the second time it is there
    strange.unlink()
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"no model")
    said += [run("sanitize", bad, "-o", strange), run("sanitize", strange, "-o", ada), run("inspect", strange)]
    said += [run("submit", strange, "--spool", spool), run("report", STRANGE, "--spool", spool)]
    assert [done.returncode for done in said] == [0, 2, 1, 2, 2, 2, 2]
    assert all("red" in done.stderr and done.stderr.isascii() and "\x1b" not in done.stderr for done in said)
    assert all(len(done.stderr.splitlines()) == 1 for done in said)


def test_a_full_disk_is_told_with_the_files_names(spool: Path, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fifomark.spool.spool._copy", full)
    with pytest.raises(OSError, match="No space left") as caught:
        drop(Layout(spool), str(ada), "")
    assert str(caught.value).endswith(f"'{ada}' -> '{spool / 'incoming/ada.pt'}'")
    assert list((spool / "incoming").iterdir()) == []


def test_inspect_goes_on_after_a_bad_file_and_says_no(ada: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no model")
    done = run("inspect", "--format", "json", tmp_path / "bad.pt", ada)
    assert done.returncode == 1
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["invalid", "clean"]


@pytest.mark.parametrize("output", ["", ".", "folder"])
@pytest.mark.parametrize("more", [[], ["--force"]])
def test_sanitize_into_a_folder_asks_for_a_name(tmp_path: Path, ada: Path, output: str, more: list[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    done = run("sanitize", ada, "-o", output, *more)
    assert done.returncode == 2
    assert f"{output or '.'}: is a folder; give the clean file a name" in done.stderr


def test_sanitize_writes_beside_and_renames_so_that_a_refusal_keeps_the_old_file(tmp_path: Path, ada: Path) -> None:
    (tmp_path / "eve.pt").write_bytes(builders.unsafe(tmp_path / "RAN"))
    out = tmp_path / "out.pt"
    out.write_bytes(b"precious")
    assert run("sanitize", tmp_path / "eve.pt", "-o", out, "--force").returncode == 1
    assert out.read_bytes() == b"precious"
    assert run("sanitize", ada, "-o", out, "--force").returncode == 0
    assert out.read_bytes() != b"precious"
    assert run("sanitize", ada, "-o", tmp_path / "no/such/folder.pt").returncode == 2
    assert not (tmp_path / "RAN").exists()


def test_every_verb_that_a_program_would_read_speaks_json(spool: Path, ada: Path) -> None:
    (submitted,) = run("submit", ada, "--json", "--spool", spool).stdout.splitlines()
    assert json.loads(submitted)["incoming"] == str(spool / "incoming/ada.pt")
    assert run("drain", "--spool", spool).returncode == 0
    for arguments in (["status", "--json"], ["report", "ada.pt", "--json"], ["leaderboard", "--json"], ["leaderboard", "--format", "json"]):
        assert json.loads(run(*arguments, "--spool", spool).stdout)["schema"].startswith("fifomark.")
    assert json.loads(run("inspect", "--json", ada).stdout)["verdict"] == "clean"
    assert json.loads(run("sanitize", "--json", ada, "-o", ada.with_name("clean.pt")).stdout)["clean"]["size"] > 0


def test_the_leaderboard_comes_in_every_format(spool: Path, ada: Path) -> None:
    (spool / "incoming/=cmd()__x.pt").write_bytes(ada.read_bytes())
    assert run("drain", "--spool", spool).returncode == 0
    assert run("leaderboard", "--format", "csv", "--spool", spool).stdout.splitlines()[1].startswith("1,'=cmd(),logistic,")
    assert run("leaderboard", "--format", "markdown", "--spool", spool).stdout.startswith("| rank")
    assert "logistic" in run("leaderboard", "--spool", spool).stdout


def test_a_leaderboard_of_no_rubric_in_particular_is_of_one_that_has_marks(spool: Path, ada: Path) -> None:
    rubrics = spool / "rubrics"
    for other in ("second", "third"):
        shutil.copytree(rubrics / "digits", rubrics / other)
        (rubrics / other / "rubric.toml").write_text((rubrics / "digits/rubric.toml").read_text().replace('"digits"', f'"{other}"', 1))
    assert run("leaderboard", "--spool", spool).stdout == "nothing was marked against digits yet\n"
    (spool / "incoming/second").mkdir()
    shutil.copy(ada, spool / "incoming/second/ada.pt")
    assert run("drain", "--spool", spool).returncode == 0
    alone = run("leaderboard", "--json", "--spool", spool)
    assert (json.loads(alone.stdout)["rubric"], alone.stderr) == ("second", "nothing was marked against digits yet; this is second\n")
    asked = run("leaderboard", "--rubric", "digits", "--spool", spool)
    assert asked.stdout == "nothing was marked against digits yet; there are marks for --rubric second\n"
    (spool / "incoming/third").mkdir()
    shutil.copy(ada, spool / "incoming/third/ada.pt")
    assert run("drain", "--spool", spool).returncode == 0
    several = run("leaderboard", "--spool", spool)
    assert several.stdout == "nothing was marked against digits yet; there are marks for --rubric second, --rubric third\n"


def test_a_leaderboard_of_pseudonyms_names_nobody_in_any_format(spool: Path, ada: Path) -> None:
    rubric = spool / "rubrics/digits/rubric.toml"
    rubric.write_text(rubric.read_text().replace('primary = "accuracy"', 'primary = "accuracy"\nnames = "pseudonym"'))
    (spool / "incoming/zebedee__x.pt").write_bytes(ada.read_bytes())
    assert run("drain", "--spool", spool).returncode == 0
    for format in ("table", "markdown", "csv", "json"):
        said = run("leaderboard", "--format", format, "--spool", spool).stdout
        assert "anon-" in said
        assert "zebedee" not in said


def test_a_student_reads_a_part_of_the_report_as_the_rubric_says(spool: Path, ada: Path) -> None:
    rubric = spool / "rubrics/digits/rubric.toml"
    rubric.write_text(rubric.read_text() + "\n[attempts]\nmax_total = 7\n[feedback]\nmetrics = 'none'\n")
    assert run("submit", ada, "--spool", spool).returncode == 0
    assert run("drain", "--spool", spool).returncode == 0
    seen = json.loads(run("report", "ada.pt", "--student", "--json", "--spool", spool).stdout)
    assert (seen["schema"], seen["id"], seen["metrics"], seen["attempts"]["used"]) == ("fifomark.feedback/1", 1, [], 1)
    assert seen["grade"]["criteria"]
    text = run("report", "ada.pt", "--student", "--spool", spool).stdout
    assert "1 of 7 attempts are used" in text
    assert "macro_f1 =" not in text
    assert "macro_f1 =" in run("report", "ada.pt", "--spool", spool).stdout
    (spool / "incoming/zebedee__copy.pt").write_bytes(ada.read_bytes())
    assert run("drain", "--spool", spool).returncode == 0
    assert "FM701" in (operators := run("report", "zebedee__copy.pt", "--spool", spool).stdout)
    assert "submission 00000001 of ada" in operators
    for arguments in (["--student"], ["--student", "--json"]):
        theirs = run("report", "zebedee__copy.pt", *arguments, "--spool", spool).stdout
        assert "FM701" in theirs
        assert not re.search(r"\bada\b", theirs)  # in a hash these letters may well stand
    (spool / "rubrics/digits").rename(spool / "rubrics/gone")
    gone = run("report", "ada.pt", "--student", "--spool", spool)
    assert (gone.returncode, gone.stdout) == (2, "")
