"""Changes to a zip that know its records: what readers of zips are known to disagree on, and whatever else can be said twice."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from random import Random

from fuzzing.bytewise import BOUNDARIES
from fuzzing.zips import DESCRIPTOR, Header, Member, Zip, member_of

_FIELDS = ("version", "flags", "method", "crc", "stored", "nbytes")
_FLAGS = (0x0001, 0x0002, 0x0004, 0x0008, 0x0020, 0x0040, 0x0800, 0x2000)
_NAMES = (
    *(b"data.pkl", b"DATA.PKL", b"data.pk\xc5\xbf", b"x.pkl", b"constants.pkl", b"code/x.py", b".data/extern_modules"),
    *(b"byteorder", b"BYTEORDER", b"version", b".format_version"),
    *(b"data/0", b"Data/0", b"data/00", b"data//0", b"data/./0", b"data/", b"data/\xe2\x84\xaa", b"data\\0"),
)


def changed(archive: Zip, rng: Random) -> None:
    """One change of one kind, in place."""
    rng.choice(_CHANGES)(archive, rng)


def _field(archive: Zip, rng: Random) -> None:
    """One field of one header lies."""
    member = rng.choice(archive.members)
    header: Header = rng.choice((member.local, member.central))
    field = rng.choice(_FIELDS)
    old = getattr(header, field)
    setattr(header, field, rng.choice((old + 1, old - 1, old ^ 1 << rng.randrange(16), rng.choice(BOUNDARIES), rng.randrange(64))))


def _flag(archive: Zip, rng: Random) -> None:
    member = rng.choice(archive.members)
    flag = rng.choice(_FLAGS)
    for header in rng.choice(((member.local,), (member.central,), (member.local, member.central))):
        header.flags ^= flag


def _attribute(archive: Zip, rng: Random) -> None:
    rng.choice(archive.members).attributes = rng.choice((0x10, 0x20, 0o100644 << 16, 0o040755 << 16 | 0x10, 1 << rng.randrange(32)))


def _shift(archive: Zip, rng: Random) -> None:
    rng.choice(archive.members).shift = rng.choice((1, -1, 30, -30, 64, rng.randrange(1 << 32)))


def _rename(archive: Zip, rng: Random) -> None:
    member = rng.choice(archive.members)
    name = _named(archive, rng)
    for header in rng.choice(((member.local,), (member.central,), (member.local, member.central), (member.local, member.central))):
        header.name = name


def _named(archive: Zip, rng: Random) -> bytes:
    """A name that means something to some reader."""
    old = rng.choice(archive.members).central.name
    root = old.split(b"/")[0]
    return rng.choice(
        (
            old.upper(),
            old.swapcase(),
            old + b"\0" + rng.choice((b"", b"x")),
            old + b"/",
            b"/" + old,
            b"../" + old,
            old.replace(b"/", b"\\"),
            old.replace(b"/", b"//", 1),
            old + b"\xff",
            old.replace(b"a", "ａ".encode()),
            old[: rng.randrange(len(old) + 1)],
            root + b"/" + rng.choice(_NAMES),
            rng.choice((b"other", root.upper(), b"")) + b"/" + rng.choice(_NAMES),
            rng.choice(_NAMES),
        )
    )


def _twice(archive: Zip, rng: Random) -> None:
    """A member occurs twice, the same or with other content, as a record of its own or in the directory only."""
    twin = copy.deepcopy(rng.choice(archive.members))
    if rng.random() < 0.5:
        twin.replace(rng.choice((b"", bytes(len(twin.data)), rng.choice(archive.members).inflated())))
    twin.present = rng.random() < 0.8
    archive.members.insert(rng.randrange(len(archive.members) + 1), twin)


def _added(archive: Zip, rng: Random) -> None:
    data = rng.choice((b"", b"little", b"big", rng.randbytes(40), rng.choice(archive.members).inflated()))
    member = member_of(_named(archive, rng), data, deflate=rng.random() < 0.3)
    archive.members.insert(rng.randrange(len(archive.members) + 1), member)


def _unlisted(archive: Zip, rng: Random) -> None:
    member = rng.choice(archive.members)
    match rng.randrange(3):
        case 0:
            member.listed = False
        case 1:
            member.present = False
        case _:
            archive.members.remove(member)
            if not archive.members:
                archive.members.append(member)


def _order(archive: Zip, rng: Random) -> None:
    rng.shuffle(archive.members)


def _gap(archive: Zip, rng: Random) -> None:
    filler = rng.choice((b"\0", bytes(64), rng.randbytes(rng.randrange(1, 80)), archive.packed()))
    match rng.randrange(5):
        case 0:
            rng.choice(archive.members).before = filler
        case 1:
            archive.gap = filler
        case 2:
            archive.tail = filler
        case 3:
            archive.slack = filler
        case _:
            rng.choice(archive.members).after += filler


def _comment(archive: Zip, rng: Random) -> None:
    text = rng.choice((b"hello", b"PK\x05\x06" + bytes(18), b"PK\x01\x02" * 20, rng.randbytes(100), archive.packed()[-22:]))
    if rng.random() < 0.5:
        archive.comment = text
    else:
        rng.choice(archive.members).comment = text


def _zip64(archive: Zip, rng: Random) -> None:
    """A member's sizes are said in 64 bits, rightly or not, in one header or both."""
    member = rng.choice(archive.members)
    lie = rng.choice((0, 0, 0, 1, -1, 1 << 32))
    for header in rng.choice(((member.local,), (member.central,), (member.local, member.central), (member.local, member.central))):
        wide = struct.pack("<2Q", max(0, member.central.nbytes + lie) % (1 << 64), member.central.stored)
        wide = wide[: rng.choice((16, 16, 16, 8, 0, 12))]
        header.extra += struct.pack("<2H", 1, len(wide)) + wide
        if rng.random() < 0.7:
            header.stored = header.nbytes = 0xFFFFFFFF


def _extra(archive: Zip, rng: Random) -> None:
    member = rng.choice(archive.members)
    header = rng.choice((member.local, member.central))
    said, given = rng.choice(((4, 4), (0, 0), (8, 2), (0xFFFF, 3)))
    header.extra += struct.pack("<2H", rng.choice((0x0001, 0x7075, 0x4246, rng.randrange(1 << 16))), said) + rng.randbytes(given)


def _end(archive: Zip, rng: Random) -> None:
    """The end records lie, one or both."""
    archive.zip64 = rng.random() < 0.7
    for end in rng.choice(((archive.end,), (archive.end64,), (archive.end, archive.end64))):
        end[rng.choice(("disk", "start_disk", "here", "total", "size", "offset"))] = rng.choice((*BOUNDARIES, rng.randrange(4000)))


def _descriptor(archive: Zip, rng: Random) -> None:
    """A data descriptor, in one of its four shapes or broken, with or without the flag that announces it."""
    member = rng.choice(archive.members)
    wide = rng.random() < 0.5
    true = (member.central.crc, member.central.stored, member.central.nbytes)
    body = struct.pack("<L2Q" if wide else "<3L", *(value & 0xFFFFFFFF for value in true))
    member.after = rng.choice((b"PK\x07\x08", b"")) + rng.choice((body, body, body[:-1], bytes(len(body))))
    if rng.random() < 0.8:
        for header in (member.local, member.central):
            header.flags |= DESCRIPTOR
    if rng.random() < 0.5:
        member.local.crc = member.local.stored = member.local.nbytes = 0


def _method(archive: Zip, rng: Random) -> None:
    """A member is stored instead of deflated, or the other way; now and then its data say otherwise."""
    member = rng.choice(archive.members)
    data = member.inflated()
    for header in (member.local, member.central):
        header.method = 8 - header.method if header.method in (0, 8) else 0
    if rng.random() < 0.8:
        member.replace(data)
    if rng.random() < 0.2:
        member.data += rng.randbytes(3)


def _content(archive: Zip, rng: Random) -> None:
    """Other bytes, with the checksum that fits them."""
    member = rng.choice(archive.members)
    data = bytearray(member.inflated() or b"\0")
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    member.replace(rng.choice((bytes(data), bytes(data[:-1]), bytes(data) + b"\0", b"", b"big", b"little\n", b"LITTLE")))


_CHANGES: tuple[Callable[[Zip, Random], None], ...] = (
    _field, _field, _flag, _attribute, _shift, _rename, _rename, _twice, _added, _added, _unlisted, _order, _gap, _comment, _zip64, _extra,
    _end, _descriptor, _method, _content,
)  # fmt: skip


def merged(one: Zip, other: Zip, rng: Random) -> bytes:
    """Two archives in one file, in one of the ways that readers fall for."""
    first, second = one.packed(), other.packed()
    match rng.randrange(4):
        case 0:
            return first + second
        case 1:
            one.members = [*copy.deepcopy(other.members), *one.members] if rng.random() < 0.5 else [*one.members, *other.members]
            return one.packed()
        case 2:
            one.comment = second[:0xFFFF]
            return one.packed()
        case _:
            hidden: Member = member_of(b"archive/nested.zip", second)
            one.members.insert(rng.randrange(len(one.members) + 1), hidden)
            return one.packed()
