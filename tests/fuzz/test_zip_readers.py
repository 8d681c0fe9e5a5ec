"""Our reader of zips beside Python's: what ours takes, both read alike; what zipfile writes honestly, ours takes."""

from __future__ import annotations

import copy
import io
import lzma
import tempfile
import zipfile
import zlib
from random import Random

from fuzzing import zips, zipwise
from fuzzing.seeds import seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from fifomark.torchfile.archive import Archive
from fifomark.torchfile.source import Broken, Source

BUDGET = 1 << 20


def by_us(body: bytes) -> dict[str, bytes] | None:
    """The records by their names; None where the archive is refused."""
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        try:
            archive = Archive(Source(file.fileno()))
            archive.check()
            return {name: archive.read(member, BUDGET) for name, member in archive.members.items()}
        except Broken:
            return None


def by_zipfile(body: bytes) -> dict[str, bytes] | None:
    """The same; names without a flag for UTF-8, which zipfile takes for code page 437 and torch for UTF-8, as torch has them."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return {_named(info): archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, zlib.error, lzma.LZMAError):
        return None


def _named(info: zipfile.ZipInfo) -> str:
    return info.filename if info.flag_bits & 0x800 else info.filename.encode("cp437").decode(errors="surrogateescape")


class Stream(io.BytesIO):
    """Something that cannot be wound back: zipfile then puts sizes and checksums behind the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:")
PARTS = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda part: part not in (".", ".."))
RECORDS = st.lists(st.tuples(PARTS, st.binary(max_size=200), st.booleans(), st.booleans()), max_size=6, unique_by=lambda r: r[0].casefold())


@given(records=RECORDS, streamed=st.booleans(), comment=st.binary(max_size=20))
@settings(max_examples=300)
def test_what_zipfile_writes_is_read_like_zipfile_does(
    records: list[tuple[str, bytes, bool, bool]], streamed: bool, comment: bytes
) -> None:
    out = Stream() if streamed else io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = comment
        for name, data, deflate, wide in records:
            info = zipfile.ZipInfo(f"root/{name}")
            info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=wide) as record:
                record.write(data)
    seen = by_us(out.getvalue())
    assert seen == {f"root/{name}": data for name, data, _, _ in records}


@given(number=st.integers(0, 1 << 32))
@settings(max_examples=1000)
def test_a_changed_archive_is_refused_or_both_read_the_same(number: int) -> None:
    rng = Random(number)
    archive = copy.deepcopy(zips.taken_apart(rng.choice([seed.body for seed in seeds() if seed.body.startswith(b"PK")])))
    for _ in range(rng.choice((1, 1, 2, 3))):
        zipwise.changed(archive, rng)
    body = archive.packed()
    ours, theirs = by_us(body), by_zipfile(body)
    assert ours is None or theirs is None or ours == theirs
