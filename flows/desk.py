"""A catalog and vault for one command, gone when it ends."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

from flows.home import Home
from flows.settings import Settings
from tasks.archive.catalog import open_catalog
from tasks.archive.vault import open_vault


class Desk:
    """A catalog and vault of images that are judged, gone when that is done.

    Images to judge are not taken into the archive's own catalog: they have no label, and their
    patients have given no more than these images.
    """

    def __init__(self, home: Home) -> None:
        host = socket.gethostname()
        for left in home.settings.home.glob(f"predict-*-{host}-*"):
            # A killed prediction leaves its desk, vault and all; its process is in the name. Of
            # another host, or container, on the same home nobody here can say whether it lives.
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
        prefix = f"predict-{os.getpid()}-{host}-"
        self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=home.settings.home))
        inside: Settings = home.settings.model_copy(
            update={"home": self._folder, "catalog_url": "", "vault_url": ""}
        )
        self.catalog = open_catalog(inside.catalog)
        self.vault = open_vault(inside.vault)

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.catalog.dispose()
        self.vault.dispose()
        shutil.rmtree(self._folder)
