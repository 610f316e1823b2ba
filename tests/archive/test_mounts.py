"""SQLite stands on no network file system: its locks do not hold there."""

from pathlib import Path

import pytest

from tasks.archive.catalog import open_catalog
from tasks.archive.mounts import NETWORK_FILE_SYSTEMS, file_system
from tasks.archive.vault import open_vault
from tasks.errors import RadloopError

MOUNTS = (
    "proc /proc proc rw 0 0\n"
    "/dev/sda1 / ext4 rw 0 0\n"
    "server:/export /data nfs4 rw,vers=4.2 0 0\n"
    "/dev/sdb1 /data/fast xfs rw 0 0\n"
    "//server/share /mnt/hospital\\040share cifs rw 0 0\n"
    "user@host:/x /home/u/remote fuse.sshfs rw 0 0\n"
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/u/catalog.db", "ext4"),
        ("/data/catalog.db", "nfs4"),
        ("/data/fast/catalog.db", "xfs"),
        ("/database/catalog.db", "ext4"),
        ("/mnt/hospital share/catalog.db", "cifs"),
        ("/home/u/remote/deep/catalog.db", "fuse.sshfs"),
    ],
)
def test_the_longest_mount_point_decides(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind
    assert (kind in NETWORK_FILE_SYSTEMS) == (kind not in ("ext4", "xfs"))


def test_a_later_mount_hides_an_earlier_one() -> None:
    mounts = "/dev/sda1 /data ext4 rw 0 0\nserver:/x /data nfs rw 0 0\n"
    assert file_system(Path("/data/x.db"), mounts) == "nfs"


def test_a_machine_without_a_table_of_mounts_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.archive.mounts.MOUNTS", tmp_path / "none")
    assert file_system(tmp_path) == "unknown"


@pytest.mark.parametrize(
    ("opener", "setting"),
    [(open_catalog, "RADLOOP_CATALOG_URL"), (open_vault, "RADLOOP_VAULT_URL")],
)
def test_refusal_names_the_setting_that_helps(
    opener, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr("tasks.archive.mounts.MOUNTS", mounts)
    with pytest.raises(RadloopError, match=setting):
        opener(f"sqlite:///{tmp_path}/x.db")
    assert not (tmp_path / "x.db").exists()
