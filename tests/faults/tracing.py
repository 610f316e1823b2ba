"""Stop or fail a program at its n-th system call of a kind, by strace's injection."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

CALLS = (
    "fsync",
    "fdatasync",
    "rename",
    "write",
    "pwrite64",
    "mkdir",
    "unlink",
    "unlinkat",
    "rmdir",
)
"""What the commit path and SQLite change a disk with; `ftruncate` only shortens a journal."""

LONGEST = 60
"""Seconds a traced program may take; alone it needs half of one."""


def why_not() -> str:
    """Return why nothing can be traced here, or an empty text."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace): no call is stopped"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "strace may not trace here: no call is stopped"


def traced(words: Sequence[object], log: Path, *options: str) -> subprocess.CompletedProcess:
    """Run ``python -m WORDS`` under strace, noting the calls that change a disk."""
    command = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *options]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, sys.executable, "-m", *map(str, words)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )


def calls(log: Path) -> list[str]:
    """Return the traced calls, a line each, in their order."""
    lines = (line.split(maxsplit=1)[1] for line in log.read_text().splitlines())
    return [line for line in lines if line.partition("(")[0] in CALLS]


def counted(log: Path) -> Counter[str]:
    """Return how often each call was made."""
    return Counter(line.partition("(")[0] for line in calls(log))


def synced(line: str) -> str | None:
    """Return the path an fsync brought to the disk."""
    found = re.match(r"fsync\(\d+<(.*)>\)", line)
    return found[1] if found else None


def renamed(line: str) -> tuple[str, str] | None:
    """Return from where to where a rename went."""
    found = re.match(r'rename\("(.*)", "(.*)"\)\s+= 0', line)
    return (found[1], found[2]) if found else None
