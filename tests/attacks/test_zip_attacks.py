"""Archives in which two programs would read two things: each is refused, whatever either of them would see."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

import builders as b
import pytest
from describing import codes, described, tensors

PICKLE = b.pickled(b.ordered_dict((b.text("w"), b.tensor("0", (2, 2)))))
HONEST = b.archive(PICKLE, {"0": bytes(16)})
END = 22  # bytes of an end record without a comment


def rewritten(change: Callable[[bytearray, int, int], None], name: bytes = b"archive/data.pkl") -> bytes:
    """The honest archive after `change(body, start of a member's local header, start of its central one)`."""
    body = bytearray(HONEST)
    local = body.index(b"PK\x03\x04", body.index(name) - 30)
    central = body.rindex(name) - 46
    assert body[central : central + 4] == b"PK\x01\x02"
    change(body, local, central)
    return bytes(body)


def put(body: bytearray, at: int, kind: str, value: int) -> None:
    struct.pack_into(kind, body, at, value)


def with_gap(gap: bytes) -> bytes:
    """Bytes between the last member and the directory, which the end record knows of."""
    directory = HONEST.index(b"PK\x01\x02")
    body = bytearray(HONEST[:directory] + gap + HONEST[directory:])
    put(body, len(body) - END + 16, "<L", directory + len(gap))
    return bytes(body)


def with_names(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, PICKLE if name.endswith("pkl") else bytes(16))
    return out.getvalue()


ROOTED = ("archive/data.pkl", "archive/data/0", "archive/version")


def test_the_honest_archive_is_read() -> None:
    assert codes(described(HONEST)) == codes(described(with_names(*ROOTED))) == []
    assert list(tensors(described(HONEST))) == ["w"]


@pytest.mark.parametrize(
    "body",
    [
        HONEST + HONEST,
        b.archive(b.pickled(b.ordered_dict()), {"0": bytes(16)}) + HONEST,
        HONEST + b"\0",
        HONEST + b"junk" * 1000,
        HONEST[:-END] + b"\0" + HONEST[-END:],
        with_gap(b"hidden"),
        with_gap(bytes(64)),
        with_gap(HONEST),
    ],
    ids=["twice", "two of them", "one byte after", "junk after", "before the end record", "gap", "zero gap", "an archive in the gap"],
)
def test_bytes_that_no_record_accounts_for_are_ambiguous(body: bytes) -> None:
    description = described(body)
    assert codes(description) == ["FM109"]
    assert description.tensors == ()


def test_a_pickle_before_the_archive_is_read_as_torch_would() -> None:
    """torch looks at the first bytes, Python's zipfile at the last ones."""
    description = described(b.pickled(b.call("posix.system", b.text("id"))) + HONEST)
    assert [call.text for call in description.calls] == ["posix.system('id')"]
    assert description.container is None


def test_a_legacy_file_with_an_archive_behind_it_is_ambiguous() -> None:
    legacy = b.legacy(PICKLE, {"0": bytes(16)})
    assert codes(described(legacy)) == []
    assert codes(described(legacy + HONEST)) == ["FM109"]


def checksum(body: bytearray) -> int:
    """Of the tar header that `body` begins with, its own field counted as spaces."""
    return sum(body[:148]) + 8 * ord(" ") + sum(body[156:512])


def signed_checksum(body: bytearray, fill: bytes) -> int:
    """The same of signed bytes, as some old programs have it, once the header's name is `fill`."""
    body[20:100] = fill * 80
    return checksum(body) - 256 * sum(byte > 127 for byte in body[:148] + body[156:512])


@pytest.mark.parametrize(
    "field",
    [
        lambda body: b"%06o\0 " % checksum(body),
        lambda body: b"%05o\0xx" % checksum(body),
        lambda body: b"\x80" + checksum(body).to_bytes(7, "big"),
        lambda body: b"%06o\0 " % signed_checksum(body, b"\xff"),
        lambda body: signed_checksum(body, b"\x80").to_bytes(8, "big", signed=True),
    ],
    ids=["octal", "octal up to a NUL", "base 256", "signed", "negative"],
)
def test_a_legacy_file_that_is_a_tar_archive_too_is_ambiguous(field: Callable[[bytearray], bytes]) -> None:
    """torch tries tar first; a tar header may begin with anything, since its first field is a name."""
    filler = b.PROTO2 + b"T" + struct.pack("<I", 600) + bytes(600) + b"0" + b.integer(b.LEGACY_MAGIC) + b.STOP
    body = bytearray(filler + b.legacy(PICKLE, {"0": bytes(16)})[len(b.pickled(b.integer(b.LEGACY_MAGIC))) :])
    assert codes(described(bytes(body))) == []
    body[148:156] = field(body)
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:"):  # the control: it is one
        assert codes(described(bytes(body))) == ["FM109"]


@pytest.mark.parametrize(
    "change",
    [
        lambda body, local, central: put(body, local + 30, "<B", ord("X")),
        lambda body, local, central: put(body, local + 6, "<H", 0x0001),
        lambda body, local, central: put(body, local + 6, "<H", 0x0008),
        lambda body, local, central: put(body, local + 8, "<H", 8),
        lambda body, local, central: put(body, local + 14, "<L", 0xDEADBEEF),
        lambda body, local, central: put(body, local + 18, "<L", 5),
        lambda body, local, central: put(body, local + 22, "<L", 5),
        lambda body, local, central: put(body, local + 4, "<H", 99),
        lambda body, local, central: put(body, central + 6, "<H", 99),
        lambda body, local, central: put(body, central + 10, "<H", 12),
        lambda body, local, central: put(body, central + 8, "<H", 0x0020),
        lambda body, local, central: put(body, central + 20, "<L", 5),
        lambda body, local, central: put(body, central + 24, "<L", 5),
        lambda body, local, central: put(body, central + 34, "<H", 1),
        lambda body, local, central: put(body, central + 42, "<L", local + 1),
        lambda body, local, central: put(body, central + 38, "<L", 0x10),
        lambda body, local, central: put(body, central + 38, "<L", 0o040755 << 16 | 0x30),
    ],
    ids=[
        "local name", "local encryption flag", "local descriptor flag", "local method", "local crc", "local stored size", "local size",
        "local version 9.9", "version 9.9", "method bzip2", "patch flag", "stored size", "size", "second disk", "header position", "folder",
        "folder of Unix",
    ],
)  # fmt: skip
def test_headers_that_disagree_are_ambiguous(change: Callable[[bytearray, int, int], None]) -> None:
    assert codes(described(rewritten(change))) in (["FM109"], ["FM108"])


def test_a_storage_that_is_marked_as_a_folder_is_ambiguous() -> None:
    """torch finds no bytes in it, and gives the tensor what was in its memory before; Python's zipfile reads it."""

    def mark(body: bytearray, local: int, central: int) -> None:
        put(body, central + 38, "<L", 0x10)

    assert codes(described(rewritten(mark, b"archive/data/0"))) == ["FM109"]


def test_an_encrypted_member_cannot_be_read() -> None:
    def encrypt(body: bytearray, local: int, central: int) -> None:
        put(body, local + 6, "<H", 1)
        put(body, central + 8, "<H", 1)

    assert codes(described(rewritten(encrypt))) == ["FM108"]


def test_two_members_that_share_their_bytes_overlap() -> None:
    def alias(body: bytearray, local: int, central: int) -> None:
        put(body, central + 42, "<L", 0)

    assert codes(described(rewritten(alias, b"archive/byteorder"))) == ["FM109"]


@pytest.mark.parametrize(
    "names",
    [
        (*ROOTED, "archive/DATA.PKL"),
        (*ROOTED, "Archive/data.pkl"),
        (*ROOTED, "other/data.pkl"),
        (*ROOTED, "other/version"),
        (*ROOTED, "version"),
        ("other/version", *ROOTED),
        ("archive/DATA.PKL", "archive/data/0"),
        ("data.pkl", "data/0"),
    ],
)
def test_other_names_for_the_model_or_a_second_root_are_ambiguous(names: tuple[str, ...]) -> None:
    assert codes(described(with_names(*names))) == ["FM109"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_ambiguous() -> None:
    assert codes(described(with_names(*ROOTED, "archive/data.pkl"))) == ["FM109"]


@pytest.mark.parametrize("name", ["archive/../evil", "/archive/evil", "archive//evil", "archive\\evil", "c:/evil", "archive/./evil"])
def test_a_name_that_is_unsafe_as_a_path_is_refused(name: str) -> None:
    assert codes(described(with_names(*ROOTED, name))) == ["FM109"]


@pytest.mark.parametrize("raw", [b"archive/vers\0on", b"archive/vers\xffon"], ids=["NUL", "not UTF-8"])
def test_a_name_that_readers_spell_differently_is_refused(raw: bytes) -> None:
    assert codes(described(HONEST.replace(b"archive/version", raw))) == ["FM109"]


def test_a_comment_is_told_and_its_bytes_are_counted() -> None:
    body = bytearray(HONEST + b"hello")
    put(body, len(HONEST) - 2, "<H", 5)
    description = described(bytes(body))
    assert [(problem.code, problem.where) for problem in description.problems] == [("FM303", "the archive's comment")]
    assert list(tensors(description)) == ["w"]


def test_an_end_record_inside_the_comment_is_ambiguous() -> None:
    body = bytearray(HONEST + HONEST[-END:])
    put(body, len(HONEST) - 2, "<H", END)
    assert codes(described(bytes(body))) == ["FM109"]


def test_two_end_records_that_disagree_are_ambiguous() -> None:
    directory, count = HONEST.index(b"PK\x01\x02"), HONEST.count(b"PK\x01\x02")
    size = len(HONEST) - END - directory

    def zip64(said_count: int, said_start: int) -> bytes:
        end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, said_count, said_count, size, said_start)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(HONEST) - END, 1)
        return HONEST[:-END] + end64 + locator + HONEST[-END:]

    assert codes(described(zip64(count, directory))) == []
    assert codes(described(zip64(count - 1, directory))) == ["FM109"]
    assert codes(described(zip64(count, directory + 1))) == ["FM109"]


def test_records_that_nothing_refers_to_are_listed() -> None:
    description = described(b.archive(PICKLE, {"0": bytes(16), "9": bytes(8)}, extra={"archive/setup.exe": b"MZ" * 50}))
    assert [(member.name, member.nbytes) for member in description.members] == [("archive/data/9", 8), ("archive/setup.exe", 100)]
    assert codes(description) == []


def test_a_pickle_of_another_name_is_no_second_model() -> None:
    assert codes(described(with_names(*ROOTED, "archive/metadata.pkl"))) == []


def test_a_deflated_archive_is_read_with_the_sizes_of_its_storages() -> None:
    description = described(b.archive(PICKLE, {"0": bytes(16)}, deflate=True))
    (storage,) = description.storages
    assert (codes(description), storage.method, storage.nbytes) == ([], 8, 16)
    assert storage.stored < 16


def test_metadata_of_torchs_own_is_no_stranger() -> None:
    known = {f"archive/{name}": b"1" for name in (".format_version", ".storage_alignment", ".data/serialization_id")}
    assert described(b.archive(PICKLE, {"0": bytes(16)}, extra=known)).members == ()


@pytest.mark.parametrize("name", ["BYTEORDER", "Version", "CONSTANTS.pkl", "DATA/0", ".Format_Version"])
def test_a_record_of_torchs_in_other_capitals_is_ambiguous(name: str) -> None:
    """torch's zip reader ignores case: it would swap the bytes of every number for a BYTEORDER that says big."""
    assert codes(described(b.archive(PICKLE, {"0": bytes(16)}, extra={f"archive/{name}": b"big"}))) == ["FM109"]


def test_bytes_under_the_name_of_a_folder_are_listed() -> None:
    seen = described(b.archive(PICKLE, {"0": bytes(16)}, extra={"archive/code/": b"", "archive/hidden/": b"MZ" * 50}))
    assert [(member.name, member.nbytes) for member in seen.members] == [("archive/hidden/", 100)]


def test_a_size_that_deflate_cannot_reach_is_ambiguous() -> None:
    """A member that nothing refers to is never inflated, and may yet claim any size."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ROOTED:
            archive.writestr(name, PICKLE if name.endswith("pkl") else bytes(16))
        archive.writestr("archive/x", b"x" * 1234, zipfile.ZIP_DEFLATED)
    body = out.getvalue()
    assert codes(described(body)) == []
    assert codes(described(body.replace(struct.pack("<L", 1234), struct.pack("<L", 1 << 30)))) == ["FM109"]


def test_zeros_deflated_as_far_as_they_go_are_honest() -> None:
    pickle = b.pickled(b.ordered_dict((b.text("w"), b.tensor("0", (4 << 20,)))))
    assert codes(described(b.archive(pickle, {"0": bytes(16 << 20)}, deflate=True))) == []


@pytest.mark.parametrize("name", [b"\x9abung/net.pt", b"a\\b/net.pt", b"../a/net.pt"], ids=["code page 437", "backslash", "dots"])
def test_a_zip_of_something_else_may_spell_its_names_as_it_likes(name: bytes) -> None:
    body = with_names("x" * len(name)).replace(b"x" * len(name), name)
    description = described(body)
    assert (codes(description), description.container) == ([], None)
    assert "net.pt" in str(description.foreign)
