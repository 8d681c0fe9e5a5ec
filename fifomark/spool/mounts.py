"""Which file systems are reached over a network: no event tells what another machine does there, and SQLite's WAL does not work."""

from __future__ import annotations

import os

import psutil

# As the kernel calls them; what has "fuse." before it (sshfs, s3fs, glusterfs …) is mostly another machine, too.
_KINDS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "9p",
        "virtiofs",
        "ocfs2",
        "gfs2",
        "pvfs2",
    }
)


def over_network(path: str | os.PathLike[str]) -> bool:
    """Whether `path`, or where it leads as a link, lies on a network file system."""
    mounts = {partition.mountpoint: partition.fstype.lower() for partition in psutil.disk_partitions(all=True)}
    where = os.path.realpath(path)
    while where not in mounts and where != os.path.dirname(where):
        where = os.path.dirname(where)
    kind = mounts.get(where, "")
    return kind in _KINDS or kind.startswith("fuse.")
