"""On which file system a path lies, and where SQLite's locks do not hold."""

from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    (
        "nfs",
        "nfs3",
        "nfs4",
        "cifs",
        "smb",
        "smbfs",
        "smb3",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "beegfs_nodev",
        "glusterfs",
        "ocfs2",
        "gfs2",
        "panfs",
        "orangefs",
        "davfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.gcsfuse",
        "fuse.davfs2",
        "fuse.juicefs",
        "fuse.mount-s3",
    )
)
"""Where SQLite's locks and its shared-memory index (WAL) are not reliable between hosts."""

MOUNTS = Path("/proc/mounts")


def file_system(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system a path lies on; ``unknown`` where nothing tells.

    Parameters
    ----------
    path : Path
        Absolute path; it need not exist.
    mounts : str, optional
        Text in the form of ``/proc/mounts`` (proc(5)): device, mount point, type, options; the
        kernel's own by default.
    """
    if mounts is None:
        mounts = MOUNTS.read_text(errors="replace") if MOUNTS.exists() else ""
    best, found = -1, "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # A later line hides an earlier one on the same mount point.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
