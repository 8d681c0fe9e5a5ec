"""A zip taken apart into its records, so that any field of it can be told to lie, and put together again."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR64 = struct.Struct("<4sLQL")
DESCRIPTOR = 0x0008


@dataclass
class Header:
    """What a local or a central header says of its member."""

    version: int
    flags: int
    method: int
    crc: int
    stored: int
    nbytes: int
    name: bytes
    extra: bytes


@dataclass
class Member:
    """`before` is a gap in front of it, `after` its descriptor. `listed`: it is in the directory. `present`: its bytes are in the file."""

    local: Header
    central: Header
    data: bytes
    after: bytes = b""
    before: bytes = b""
    comment: bytes = b""
    disk: int = 0
    attributes: int = 0
    shift: int = 0  # added to the position that the directory gives
    listed: bool = True
    present: bool = True

    @property
    def name(self) -> str:
        return self.central.name.decode(errors="replace")

    def inflated(self) -> bytes:
        """Its bytes; as they are where they cannot be inflated, since its method may be a lie by now."""
        try:
            return zlib.decompressobj(-15).decompress(self.data) if self.central.method == 8 else self.data
        except zlib.error:
            return self.data

    def replace(self, data: bytes) -> None:
        """Other content, with everything that is said of it true again."""
        self.data = _deflated(data) if self.central.method == 8 else data
        true = (zlib.crc32(data), len(self.data), len(data))
        for header in (self.local, self.central):
            if header is self.central or not header.flags & DESCRIPTOR:
                header.crc, header.stored, header.nbytes = true
        if self.central.flags & DESCRIPTOR:
            self.after = b"PK\x07\x08" + struct.pack("<3L", *true)


@dataclass
class Zip:
    members: list[Member]
    comment: bytes = b""
    gap: bytes = b""  # before the directory
    tail: bytes = b""
    slack: bytes = b""  # at the end of the directory
    zip64: bool = False
    end: dict[str, int] = field(default_factory=dict)  # what the end record says instead of the truth
    end64: dict[str, int] = field(default_factory=dict)

    def member(self, ending: str) -> Member | None:
        return next((m for m in self.members if m.name.endswith(ending)), None)

    def packed(self) -> bytes:
        out, places = bytearray(), []
        for member in self.members:
            out += member.before
            places.append(len(out))
            if member.present:
                out += _local(member.local) + member.data + member.after
        out += self.gap
        start = len(out)
        listed = [(m, at) for m, at in zip(self.members, places, strict=True) if m.listed]
        for member, at in listed:
            out += _central(member, at)
        out += self.slack
        true = {"disk": 0, "start_disk": 0, "here": len(listed), "total": len(listed), "size": len(out) - start, "offset": start}
        if self.zip64:
            wide = true | self.end64
            at = len(out)
            out += END64.pack(b"PK\x06\x06", 44, 45, 45, *(_within(value, 64 if i > 1 else 32) for i, value in enumerate(wide.values())))
            out += LOCATOR64.pack(b"PK\x06\x07", 0, at, 1)
        narrow = true | self.end
        out += END.pack(b"PK\x05\x06", *(_within(v, 32 if i > 3 else 16) for i, v in enumerate(narrow.values())), len(self.comment))
        return bytes(out + self.comment + self.tail)


def taken_apart(body: bytes) -> Zip:
    """An honest zip, as torch or zipfile writes it."""
    at = body.rindex(b"PK\x05\x06")
    _, _, _, _, total, _, start, _ = END.unpack_from(body, at)
    zip64 = body[at - LOCATOR64.size : at][:4] == b"PK\x06\x07"
    found, where = [], start
    for _ in range(total):
        _, _, version, flags, method, _, _, crc, stored, nbytes, n, e, c, _, _, _, local = CENTRAL.unpack_from(body, where)
        where += CENTRAL.size
        header = Header(version, flags, method, crc, stored, nbytes, body[where : where + n], body[where + n : where + n + e])
        found.append((local, header))
        where += n + e + c
    ends = [*sorted([local for local, _ in found][1:]), start]
    return Zip([_member(body, local, header, end) for (local, header), end in zip(found, ends, strict=True)], body[at + 22 :], zip64=zip64)


def member_of(name: bytes, data: bytes, *, deflate: bool = False) -> Member:
    """A new member, stored or deflated, of which all is true."""
    packed = _deflated(data) if deflate else data
    headers = [Header(20, 0x800, 8 if deflate else 0, zlib.crc32(data), len(packed), len(data), name, b"") for _ in range(2)]
    return Member(*headers, packed)


def _member(body: bytes, at: int, central: Header, end: int) -> Member:
    _, version, flags, method, _, _, crc, stored, nbytes, n, e = LOCAL.unpack_from(body, at)
    at += LOCAL.size
    local = Header(version, flags, method, crc, stored, nbytes, body[at : at + n], body[at + n : at + n + e])
    at += n + e
    return Member(local, central, body[at : at + central.stored], body[at + central.stored : end])


def _deflated(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


def _local(h: Header) -> bytes:
    fixed = LOCAL.pack(b"PK\x03\x04", *_shorts(h), 0, 0x21, *_longs(h), len(h.name) & 0xFFFF, len(h.extra) & 0xFFFF)
    return fixed + h.name + h.extra


def _central(member: Member, at: int) -> bytes:
    h = member.central
    lengths = (len(h.name) & 0xFFFF, len(h.extra) & 0xFFFF, len(member.comment), member.disk)
    place = _within(at + member.shift, 32)
    fixed = CENTRAL.pack(b"PK\x01\x02", 20, *_shorts(h), 0, 0x21, *_longs(h), *lengths, 0, _within(member.attributes, 32), place)
    return fixed + h.name + h.extra + member.comment


def _shorts(h: Header) -> tuple[int, int, int]:
    return _within(h.version, 16), _within(h.flags, 16), _within(h.method, 16)


def _longs(h: Header) -> tuple[int, int, int]:
    return _within(h.crc, 32), _within(h.stored, 32), _within(h.nbytes, 32)


def _within(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)
