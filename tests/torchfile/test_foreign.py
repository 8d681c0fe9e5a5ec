from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile

import builders
import numpy as np
import pytest
from describing import calls, codes, described, uses


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"some bytes " * 10)
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones(3))
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.ones(3))
    return out.getvalue()


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return out.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "an empty file"),
        (bytes(4096), "nothing but zero bytes"),
        (safetensors(), "a safetensors file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file (Keras .h5?)"),
        (b"GGUF\x03\0\0\0" + bytes(64), "a GGUF file"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(range(64)), "an ONNX model"),
        (npy(), "a numpy .npy file"),
        (npz(), "a numpy .npz archive"),
        (tar(), "a tar archive (torch before 0.2 wrote such files)"),
        (gzip.compress(b"x" * 100, mtime=0), "a gzip file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "a JPEG picture"),
        (b"\x7fELF\x02\x01" + bytes(64), "an ELF program"),
        (b"<!DOCTYPE html><html>Not found</html>", "an HTML page (a failed download?)"),
        (b'{"weights": [1, 2]}', "a JSON or text file"),
        (b"I am not a model\n", "a text file"),
        (b"column,other\n1,2\n", "a text file"),
        (b"class Net:\n    pass\n", "a text file"),
        (zipped("word/document.xml", "[Content_Types].xml"), "an Office document"),
        (zipped("META-INF/MANIFEST.MF"), "a Java archive"),
        (zipped("model/net.pt", "model/readme.txt"), "a zip archive with 'net.pt' in it (submit that file itself)"),
        (zipped("a.txt", "b.txt"), "a zip archive of 2 files that torch.save did not write"),
        (zipped("pkg/.data/extern_modules", "pkg/model/model.pkl"), "a torch.package archive"),
        (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
        (pickle.dumps({"a": 1}, protocol=4)[:-3], "a pickle that torch.save did not write"),
    ],
)
def test_what_is_no_torch_file_is_named(body: bytes, name: str) -> None:
    description = described(body)
    assert (description.container, description.foreign) == (None, name)
    assert description.globals == ()


def test_an_empty_file_is_a_problem_of_its_own() -> None:
    assert codes(described(b"")) == ["FM105"]


def test_a_zip_with_methods_of_its_own_is_named_and_not_called_ambiguous() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("notes.txt", b"x" * 1000)
    description = described(out.getvalue())
    assert (description.foreign, codes(description)) == ("a zip archive of 1 files that torch.save did not write", [])


@pytest.mark.parametrize("head", [b"", b"\x80\x04", b"MZZ0", b"GGUFxxxxx0", b"GIF8xxxxx0", b"G\0\0\0\0\0\0\0{0"])
def test_a_pickle_behind_another_formats_first_bytes_shows_what_it_would_run(head: bytes) -> None:
    description = described(head + builders.call("posix.system", builders.text("id")) + b".")
    assert description.foreign == "a pickle that torch.save did not write"
    assert calls(description) == ["posix.system('id')"]
    assert uses(description, "posix.system") == {"call"}


def test_a_protocol_0_pickle_is_text_and_still_read() -> None:
    assert calls(described(b"cos\nsystem\n(S'id'\ntR.")) == ["os.system('id')"]


def test_what_a_broken_pickle_had_called_stays_in_the_description() -> None:
    description = described(builders.PROTO2 + builders.call("posix.system", builders.text("id")) + b"\xff rubbish")
    assert calls(description) == ["posix.system('id')"]
    assert codes(description) == ["FM207"]
