"""The hook as pre-commit would run it: its entry, its arguments, and then the files that its pattern matches."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import builders as b

ROOT = Path(__file__).parents[2]
# A list of one flat mapping: read without a YAML library, which nothing else here needs.
HOOK = dict(re.findall(r"^[- ] (\w+): (.+)$", (ROOT / ".pre-commit-hooks.yaml").read_text(), re.MULTILINE))


def test_the_hook_has_what_pre_commit_asks_for_and_the_name_that_the_readme_says() -> None:
    assert set(HOOK) == {"id", "name", "description", "entry", "args", "language", "files"}
    assert HOOK["language"] == "python"
    assert f"- id: {HOOK['id']}" in (ROOT / "README.md").read_text()


def test_the_hook_looks_at_models_and_at_nothing_else() -> None:
    names = ["a.pt", "models/b.pth", "c.pt.txt", "dpt", "e.py"]
    assert [name for name in names if re.search(HOOK["files"], name)] == ["a.pt", "models/b.pth"]


def test_the_hook_passes_an_honest_model_and_fails_on_code_and_on_what_cannot_be_read(tmp_path: Path) -> None:
    bodies = {
        "honest.pt": b.logistic(),
        "unsafe.pt": b.unsafe(tmp_path / "RAN"),
        "broken.pt": b.logistic()[:-40],
        "honest.pth": b.logistic(),
    }
    command, *words = shlex.split(HOOK["entry"])
    args = json.loads(re.sub(r"[\w-]+", r'"\g<0>"', HOOK["args"]))
    codes = {}
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
        run = [str(Path(sys.executable).parent / command), *words, *args, name]
        codes[name] = subprocess.run(run, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode
    assert codes == {"honest.pt": 0, "unsafe.pt": 1, "broken.pt": 1, "honest.pth": 1}
    assert not (tmp_path / "RAN").exists()
