"""The program of a benchmark's peers, in an environment and a process of its own.

It works only while ours waits for its answer.
"""

import json
import os
import subprocess
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
"""Python of the environment that ``make bench`` makes for the peers."""


class Peers:
    """A program of this folder that answers each line of JSON with one.

    Parameters
    ----------
    script : str
        Its file.
    """

    def __init__(self, script: str) -> None:
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [PEERS, Path(__file__).with_name(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=quiet,
        )

    def ask(self, **command: object) -> object:
        """Send one command and wait for its answer."""
        print(json.dumps(command), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peers' process ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
