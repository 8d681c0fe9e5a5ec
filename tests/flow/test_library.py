from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import builders
import pytest
import torch
from torch import nn

import fifomark
from fifomark import FIFOModelQueue, InvalidModel, ModelRefused, UnsafeModel, inspect_model, sanitize_model
from fifomark.core.errors import DeclarationMissing


def test_the_loop_of_the_readme_runs_as_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    for name in ("model1.pt", "model2.pt"):
        torch.save(nn.Linear(3, 2).state_dict(), name)
    queue = FIFOModelQueue()
    queue.enqueue("model1.pt")
    queue.enqueue("model2.pt")
    seen = []
    while not queue.is_empty():
        path = queue.dequeue()
        sanitized = sanitize_model(path)
        seen.append((path, sanitized.family))
    assert seen == [("model1.pt", "logistic"), ("model2.pt", "logistic")]


def test_a_sanitized_model_gives_its_weights_saves_and_builds(tmp_path: object) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    torch.save(model, f"{tmp_path}/whole.pt")
    sanitized = sanitize_model(f"{tmp_path}/whole.pt")
    weights = sanitized.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    saved = torch.load(sanitized.save(f"{tmp_path}/clean.pt"), weights_only=True)
    assert list(saved) == list(model.state_dict())
    x = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.equal(sanitized.build(activation="relu")(x), model(x))
    assert sanitized.family == "mlp"
    assert sanitized.verdict == "clean"


def test_a_refusal_is_a_named_error_with_the_findings(tmp_path: object) -> None:
    marker = Path(f"{tmp_path}/RAN")
    Path(f"{tmp_path}/eve.pt").write_bytes(builders.unsafe(marker))
    with pytest.raises(UnsafeModel, match=r"posix\.system") as caught:
        sanitize_model(f"{tmp_path}/eve.pt")
    assert caught.value.findings[0].code == "FM201"
    assert isinstance(caught.value, ModelRefused)
    assert sanitize_model(f"{tmp_path}/eve.pt", on_unsafe="disarm").state_dict().keys() == {"weight", "bias"}
    assert not marker.exists()
    Path(f"{tmp_path}/text.pt").write_text("hello")
    with pytest.raises(InvalidModel):
        sanitize_model(f"{tmp_path}/text.pt")
    with pytest.raises(FileNotFoundError):
        sanitize_model(f"{tmp_path}/nobody.pt")


def test_inspecting_reads_without_writing(tmp_path: object) -> None:
    import os

    torch.save(nn.Linear(3, 2).state_dict(), f"{tmp_path}/a.pt")
    assert inspect_model(f"{tmp_path}/a.pt").verdict == "clean"
    assert os.listdir(str(tmp_path)) == ["a.pt"]


def test_what_a_file_cannot_tell_must_be_declared(tmp_path: object) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(8, 16)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1, enable_nested_tensor=False)
            self.head = nn.Linear(16, 10)

    torch.save(Net().state_dict(), f"{tmp_path}/t.pt")
    sanitized = sanitize_model(f"{tmp_path}/t.pt")
    with pytest.raises(DeclarationMissing, match="nhead"):
        sanitized.build(input_shape=(8, 8))
    assert sanitized.build(input_shape=(8, 8), nhead=4)(torch.randn(2, 8, 8)).shape == (2, 10)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, fifomark; from fifomark import FIFOModelQueue, sanitize_model; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert fifomark.__version__


def test_a_script_without_its_guard_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    made, call = (
        "import fifomark\nqueue = fifomark.FIFOModelQueue()\nqueue.enqueue('model.pt')\n",
        "list(queue.process(len, slots=['cpu']))",
    )
    (tmp_path / "script.py").write_text(made + call)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    words = 'FIFOModelQueue.process() starts processes that import this script again: put the call below  if __name__ == "__main__":'
    assert words in done.stderr
    assert "bootstrapping" not in done.stderr
    (tmp_path / "script.py").write_text(f"{made}if __name__ == '__main__':\n    {call}")
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True, timeout=120)


def test_a_script_that_marks_on_a_gpu_without_its_guard_is_told_what_to_do(tmp_path: Path) -> None:
    rubric = Path(fifomark.__file__).parent / "examples" / "digits"
    torch.save(nn.Linear(64, 10).state_dict(), tmp_path / "model.pt")
    (tmp_path / "script.py").write_text(f"import fifomark\nprint(fifomark.mark_model('model.pt', {str(rubric)!r}, slot='cuda:0'))")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert 'mark_model() starts processes that import this script again: put the call below  if __name__ == "__main__":' in done.stderr
    assert "bootstrapping" not in done.stderr


def test_a_model_is_marked_on_the_cpu_by_a_script_without_a_guard_too(tmp_path: Path) -> None:
    """What forks the worker does not import the script; on a GPU, where workers are started anew, the guard is needed."""
    rubric = Path(fifomark.__file__).parent / "examples" / "digits"
    torch.save(nn.Linear(64, 10).state_dict(), tmp_path / "model.pt")
    (tmp_path / "script.py").write_text(f"import fifomark\nprint(fifomark.mark_model('model.pt', {str(rubric)!r}, slot='cpu').state)")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "done\n"
