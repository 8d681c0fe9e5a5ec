"""A strict reader of zip directories: one file, one reading.

Python's zipfile and the miniz in torch disagree on duplicate names, concatenated archives, local headers and more; whatever two
programs could read in two ways is refused here. Every byte of the file belongs to exactly one member, descriptor or directory record.
Layout of the records: APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from fifomark.torchfile.source import Broken, Problem, Source

_END_MAGIC = re.compile(rb"PK\x05\x06")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_NARROW, _WIDE = struct.Struct("<3L"), struct.Struct("<L2Q")  # data descriptors
_DESCRIPTOR, _ENCRYPTED, _KNOWN_FLAGS, _FOLDER = 0x0008, 0x2041, 0x080E, 0x10
_PLAIN_NAME = re.compile(r"(?:\w[\w.-]*|\.\w[\w.-]*)(?:/(?:\w[\w.-]*|\.\w[\w.-]*))*\Z", re.ASCII)
_PADDING = b"FB"  # the extra field by which torch aligns a storage
MAX_DIRECTORY = 64 << 20  # bytes
MAX_MEMBERS = 250_000
MAX_EXTRA_FIELDS = 64  # of one header, which could hold sixteen thousand empty ones
MAX_RATIO = 1100  # bytes that deflate can make of one: 1032, and a little for its first
MAX_VERSION = 63  # of the zip format, times ten: the last that Python's zipfile opens


class Member:
    """A record of the archive. `start` and `stored` bound its bytes in the file; `nbytes` is its size once inflated.

    `attributes` are MS-DOS's in the low byte, where one bit makes it a folder for some readers.
    """

    __slots__ = ("attributes", "crc32", "flags", "header", "method", "name", "nbytes", "start", "stored", "version")

    def __init__(
        self, name: str, version: int, flags: int, method: int, crc32: int, stored: int, nbytes: int, attributes: int, header: int
    ) -> None:
        self.name, self.version, self.flags, self.method, self.crc32 = name, version, flags, method, crc32
        self.stored, self.nbytes, self.attributes, self.header = stored, nbytes, attributes, header
        self.start = 0


class Archive:
    """`members` by their full names, in the directory's order; `problems` are what is strange but has one reading (comments).

    The names may be looked at at once; nothing else is true before `check` has passed.
    """

    __slots__ = ("_directory", "_listed", "members", "problems", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        directory, count, end = _find_directory(source, self.problems)
        self._directory = directory
        self._listed = list(_entries(source.at(directory, end - directory, "the directory"), count, self.problems))
        self.members = {member.name: member for member in self._listed}

    def check(self) -> None:
        """Broken where two programs could read two things, or where the archive is damaged."""
        _check_names(self._listed)
        for member in self._listed:
            _check_features(member)
        _account_for_every_byte(self.source, self._listed, self._directory)

    def read(self, member: Member, budget: int) -> bytes:
        """The member's bytes, inflated; Broken beyond `budget` bytes, or where its checksum does not match."""
        if member.nbytes > budget or member.stored > budget:
            raise Broken("FM110", member.name, f"{member.nbytes} bytes are more than may be read of it ({budget})")
        data = self.source.at(member.start, member.stored, member.name)
        if member.method == 8:
            data = _inflated(data, member)
        if len(data) != member.nbytes:
            raise Broken("FM109", member.name, f"{len(data)} bytes where its header says {member.nbytes}")
        if zlib.crc32(data) != member.crc32:
            raise Broken("FM111", member.name, "its checksum does not match its bytes")
        return data


def _inflated(data: bytes, member: Member) -> bytes:
    machine = zlib.decompressobj(-15)
    try:
        out = machine.decompress(data, member.nbytes + 1)
    except zlib.error as e:
        raise Broken("FM108", member.name, f"cannot be inflated: {e}") from e
    if not machine.eof or machine.unused_data or machine.unconsumed_tail:
        raise Broken("FM109", member.name, "its compressed bytes do not end where its header says")
    return out


def _find_directory(source: Source, problems: list[Problem]) -> tuple[int, int, int]:
    """Where the directory starts, how many entries it has, and where it ends."""
    at, comment = _find_end(source)
    if comment:
        problems.append(Problem("FM303", "the archive's comment", f"{comment} bytes that no tensor shows"))
    _, disk, start_disk, here, total, size, offset, _ = _END.unpack(source.at(at, _END.size))
    claims, end = [disk, start_disk, here, total, size, offset], at
    if at >= _LOCATOR64.size and source.at(at - _LOCATOR64.size, 4) == b"PK\x06\x07":
        claims, end = _zip64(source, at - _LOCATOR64.size, claims)
    disk, start_disk, here, total, size, offset = claims
    if total > MAX_MEMBERS:
        raise Broken("FM110", "the directory", f"{total} members")
    if disk or start_disk or here != total:
        raise Broken("FM108", "the end record", "the archive is one part of several")
    if size > MAX_DIRECTORY:
        raise Broken("FM110", "the directory", f"{size} bytes of directory")
    if offset + size != end:
        raise Broken("FM109", "the end record", "the directory does not lie where the end record says", f"{offset} + {size} is not {end}")
    return offset, total, end


def _find_end(source: Source) -> tuple[int, int]:
    """Position of the end record, and the length of its comment."""
    tail_start = max(0, source.size - _END.size - 0xFFFF)
    tail = source.at(tail_start, source.size - tail_start)
    found = [match.start() for match in _END_MAGIC.finditer(tail) if match.start() + _END.size <= len(tail)]
    fitting = [i for i in found if i + _END.size + int.from_bytes(tail[i + 20 : i + 22], "little") == len(tail)]
    if not fitting:
        if found:
            raise Broken("FM109", "the end of the file", "there are bytes after the end of the archive")
        raise Broken("FM107", "the end of the file", "the archive has no end record: the file is cut off")
    if len(fitting) > 1 or any(i > fitting[0] for i in found):
        raise Broken("FM109", "the end of the file", "there are several end records")
    return tail_start + fitting[0], len(tail) - fitting[0] - _END.size


def _zip64(source: Source, locator: int, claims: list[int]) -> tuple[list[int], int]:
    _, disk, at, disks = _LOCATOR64.unpack(source.at(locator, _LOCATOR64.size))
    if disk or disks != 1 or at + _END64.size != locator:
        raise Broken("FM109", "the zip64 locator", "the zip64 end record does not lie before its locator")
    magic, size, _, _, *real = _END64.unpack(source.at(at, _END64.size))
    if magic != b"PK\x06\x06" or size != _END64.size - 12:
        raise Broken("FM108", "the zip64 end record", "is damaged")
    for claim, value, unsaid in zip(claims, real, (0xFFFF,) * 4 + (0xFFFFFFFF,) * 2, strict=True):
        if claim not in (value, unsaid):
            raise Broken("FM109", "the end records", "the two end records disagree", f"{claim} and {value}")
    return list(real), at


def _entries(directory: bytes, count: int, problems: list[Problem]) -> Iterator[Member]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise Broken("FM108", "the directory", "ends in the middle of an entry")
        magic, _, version, flags, method, _, _, crc, stored, nbytes, n, e, c, disk, _, attributes, header = _CENTRAL.unpack_from(
            directory, at
        )
        at += _CENTRAL.size
        raw, extra = directory[at : at + n], directory[at + n : at + n + e]
        at += n + e + c
        if magic != b"PK\x01\x02" or at > len(directory):
            raise Broken("FM108", "the directory", "has a damaged entry")
        name = raw.decode("utf-8", "surrogateescape")
        if c:
            problems.append(Problem("FM303", name, f"a comment of {c} bytes that no tensor shows"))
        if extra or 0xFFFFFFFF in (nbytes, stored, header):
            nbytes, stored, header = _wide(extra, name, [nbytes, stored, header])
        if disk:
            raise Broken("FM109", name, "lies in another part of the archive")
        yield Member(name, version, flags, method, crc, stored, nbytes, attributes, header)
    if at != len(directory):
        raise Broken("FM109", "the directory", f"has {len(directory) - at} bytes more than its entries")


def _check_name(name: str) -> None:
    if _PLAIN_NAME.match(name):  # nearly all of them
        return
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Broken("FM109", name[:200], "a member's name is not UTF-8") from None
    parts = name.rstrip("/").split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts) or ":" in parts[0]:
        raise Broken("FM109", name[:200], "a member's name is unsafe as a path")


def _wide(extra: bytes, name: str, values: list[int]) -> list[int]:
    """The 32-bit `values`, in the zip64 extra field's order, from that field where they say so."""
    wide = _extra64(extra, name)
    for i, value in enumerate(values):
        if value == 0xFFFFFFFF:
            if len(wide) < 8:
                raise Broken("FM108", name, "lacks its zip64 field")
            values[i], wide = int.from_bytes(wide[:8], "little"), wide[8:]
    return values


def _extra64(extra: bytes, name: str) -> bytes:
    if extra[:2] == _PADDING and len(extra) == 4 + int.from_bytes(extra[2:4], "little"):
        return b""  # one field, and another one
    found, at, fields = None, 0, 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        at, fields = at + 4 + size, fields + 1
        if fields > MAX_EXTRA_FIELDS:
            raise Broken("FM109", name, f"has more than {MAX_EXTRA_FIELDS} extra fields")
        if at > len(extra):
            raise Broken("FM108", name, "has a damaged extra field")
        if kind == 1:
            if found is not None:
                raise Broken("FM109", name, "has two zip64 fields")
            found = extra[at - size : at]
    return found or b""


def _check_names(members: list[Member]) -> None:
    seen: dict[str, str] = {}
    for member in members:
        _check_name(member.name)
        folded = member.name.casefold()
        if folded in seen:
            raise Broken("FM109", member.name, "two members have this name (some readers ignore case)", seen[folded][:300])
        seen[folded] = member.name


def _check_features(member: Member) -> None:
    if member.flags & _ENCRYPTED:
        raise Broken("FM108", member.name, "is encrypted")
    if member.flags & ~_KNOWN_FLAGS or member.method not in (0, 8) or (member.version & 0xFF) > MAX_VERSION:
        seen = f"flags {member.flags:#x}, method {member.method}, version {member.version}"
        raise Broken("FM109", member.name, "uses a feature of zip that readers disagree on", seen)
    if member.attributes & _FOLDER and not member.name.endswith("/"):
        raise Broken("FM109", member.name, "is marked as a folder: some readers find no bytes in it", f"attributes {member.attributes:#x}")
    if member.method == 0 and member.stored != member.nbytes:
        raise Broken("FM109", member.name, "is stored, and yet has two sizes", f"{member.stored} and {member.nbytes}")
    if member.nbytes > MAX_RATIO * member.stored:
        raise Broken("FM109", member.name, "declares more bytes than deflate can make of it", f"{member.nbytes} of {member.stored}")


def _account_for_every_byte(source: Source, members: list[Member], directory: int) -> None:
    """Compare every local header with the directory, and see that members follow each other without gap or overlap."""
    at = 0
    in_order = sorted(members, key=lambda member: member.header)
    for i, member in enumerate(in_order):
        if member.header != at:
            gap = member.header - at
            raise Broken(
                "FM109", member.name, f"comes after {gap} bytes that nothing accounts for" if gap > 0 else "overlaps what comes before it"
            )
        _check_local(source, member)
        following = in_order[i + 1].header if i + 1 < len(in_order) else directory
        at = _check_descriptor(source, member, following)
    if at != directory:
        raise Broken("FM109", "the directory", f"comes after {directory - at} bytes that nothing accounts for")


def _check_local(source: Source, member: Member) -> None:
    magic, version, flags, method, _, _, crc, stored, nbytes, n, e = _LOCAL.unpack(source.at(member.header, _LOCAL.size, member.name))
    rest = source.at(member.header + _LOCAL.size, n + e, member.name)
    if magic != b"PK\x03\x04":
        raise Broken("FM108", member.name, "its local header is damaged")
    if rest[:n] != member.name.encode():
        raise Broken("FM109", member.name, "its local header has another name", repr(rest[:n][:80]))
    member.start = member.header + _LOCAL.size + n + e
    wide = _extra64(rest[n:], member.name)
    if nbytes == 0xFFFFFFFF and stored == 0xFFFFFFFF and len(wide) >= 16:
        nbytes, stored = struct.unpack_from("<2Q", wide)
    said = (crc, stored, nbytes)
    real = (member.crc32, member.stored, member.nbytes)
    if (
        flags != member.flags
        or method != member.method
        or (version & 0xFF) > MAX_VERSION
        or not (said == real or _later(flags, said, real))
    ):
        raise Broken("FM109", member.name, "its local header disagrees with the directory", f"{said} and {real}")


def _later(flags: int, said: tuple[int, ...], real: tuple[int, ...]) -> bool:
    """Whether a local header leaves its figures to the data descriptor."""
    return bool(flags & _DESCRIPTOR) and (
        said == (0, 0, 0) or all(value in (0, truth, 0xFFFFFFFF) for value, truth in zip(said, real, strict=True))
    )


def _check_descriptor(source: Source, member: Member, following: int) -> int:
    """Where the member ends, its data descriptor included."""
    end = member.start + member.stored
    if not member.flags & _DESCRIPTOR:
        return end
    gap = source.at(end, following - end, member.name) if 12 <= following - end <= 24 else b""
    said = gap.removeprefix(b"PK\x07\x08")
    if len(said) == _NARROW.size:
        right = said == _NARROW.pack(member.crc32, member.stored & 0xFFFFFFFF, member.nbytes & 0xFFFFFFFF)
    else:
        right = said == _WIDE.pack(member.crc32, member.stored, member.nbytes)
    if not right:
        raise Broken("FM109", member.name, "its data descriptor is missing or disagrees with the directory")
    return following
