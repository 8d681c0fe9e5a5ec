"""What a file is when it is no torch file: so that the message can say "this is a Keras file", not "bad magic number"."""

from __future__ import annotations

from collections.abc import Iterable

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5?)"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a numpy .npy file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ", "a Windows program"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (run: git lfs pull)"),
)


def name_of(head: bytes, size: int) -> str | None:
    """What a file that begins with `head` (its first 4 KiB) is; None where it is not known."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if size > 8 and int.from_bytes(head[:8], "little") <= size - 8 and head[8:9] == b"{":
        return "a safetensors file"
    if is_tar(head):
        return "a tar archive (torch before 0.2 wrote such files)"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    return _text(head) or ("an ONNX model" if _is_onnx(head) else None)


def is_tar(head: bytes) -> bool:
    """Whether tarfile, and so torch.load, would open it: the first block's checksum is right. The block may begin with anything."""
    rest = head[:148] + head[156:512]
    signed = sum(byte - 256 if byte > 127 else byte for byte in rest)
    return len(head) >= 512 and _tar_number(head[148:156]) in (256 + sum(rest), 256 + signed)


def _tar_number(field: bytes) -> int | None:
    """What tarfile reads in a field of a header: octal digits up to a NUL, or base 256. None for neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    if field[:1] == b"\xff":
        return int.from_bytes(field, "big", signed=True)
    try:
        return int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return None


def _is_onnx(head: bytes) -> bool:
    """A ModelProto begins with its ir_version (field 1, a small number) and then its producer (field 2) or graph (field 7) or opset (8)."""
    return len(head) > 3 and head[0] == 0x08 and head[1] < 0x20 and head[2] in (0x12, 0x3A, 0x42, 0x1A, 0x22)


def _text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as e:
        if e.start < len(head) - 4:  # a character cut by the 4 KiB does not count
            return None
        text = head[: e.start].decode("utf-8")
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return None
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page (a failed download?)"
    if start.startswith(("{", "[")):
        return "a JSON or text file"
    return "a text file"


def archive_of(names: Iterable[str]) -> str:
    """What a zip archive without a data.pkl is, by the names in it."""
    listed = list(names)
    tails = [name.rsplit("/", 1)[-1] for name in listed]
    if any(name.endswith(".data/extern_modules") for name in listed):
        return "a torch.package archive"
    if "archive_format" in tails or any(name.endswith((".pt2", "models/model.json")) for name in listed):
        return "a torch.export archive (.pt2)"
    if listed and all(name.endswith(".npy") for name in listed):
        return "a numpy .npz archive"
    if "model.weights.h5" in tails:
        return "a Keras archive"
    if "[Content_Types].xml" in tails:
        return "an Office document"
    if "MANIFEST.MF" in tails:
        return "a Java archive"
    inside = [tail for tail in tails if tail.endswith((".pt", ".pth"))]
    if inside:
        return f"a zip archive with {inside[0]!r} in it (submit that file itself)"
    return f"a zip archive of {len(listed)} files that torch.save did not write"
