"""Run every bench_*.py that is not done yet and write docs/benchmarks.md.

    python benchmarks/run_all.py [--only store,loader] [--fresh] [--page]

A result is kept in benchmarks/results/ with the digest of the code it came from: a script that
ended is not run again until radloop, the benchmarks or the peers change, and one that was killed or
crashed is.  ``--fresh`` runs all the same; ``--page`` only writes the page anew.  The page begins
with the aims of learning (`AIMS`), each with what a script last printed of it in a line
``KEY: MEASURED; bar BAR: met`` (or ``MISSED``).  Exit code 1 when a script missed a bar or
crashed.
"""

import argparse
import ast
import hashlib
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
RESULTS = HERE / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

CODE = ("tasks", "flows", "benchmarks", "constraints.txt")
"""What a figure may depend on; all of it for every script, since none says what it reaches."""

MISSES = re.compile(r"MISSED|NOT EQUAL|PLANNED TOO LOW|PLANNED BADLY")
"""How the scripts mark a line that is out of its bar."""

AIMS = (
    ("hippocampus", "hippocampus", "Hippocampus, 60 cases: mean Dice of five folds at least .87, "
     "within 60 minutes of two cores"),
    ("hippocampus-nnunet-30", "hippocampus", "Hippocampus: not inferior to nnU-Net v2 by more than "
     ".005 Dice on the same folds, three seeds, 30 core minutes for five folds"),
    ("hippocampus-nnunet-60", "hippocampus", "The same with 60 core minutes"),
    ("chest-xray", "chest_xray", "Chest radiographs, 900 images: AUROC at least .97"),
    ("chest-xray-forest", "chest_xray", "Chest radiographs: better than a random forest on the "
     "same pixels by a paired test"),
    ("pneumonia", "learning", "PneumoniaMNIST: validation AUROC at least .99"),
    ("adrenal", "learning", "AdrenalMNIST3D: validation AUROC at least .86"),
    ("wisconsin-unscaled", "wisconsin", "Wisconsin table, 200 splits: the seed's unscaled SVC has "
     "accuracy .915 within .005 and malignant recall .80 within .02"),
    ("wisconsin-scaled", "wisconsin", "Wisconsin table, 200 splits: the scaled SVC has accuracy "
     ".974 within .005 and malignant recall .95 within .02"),
)  # fmt: skip
"""What learning is to reach on two cores: key, script that measures it, and the aim in words."""

_AIM = re.compile(r"^(?P<key>[\w-]+): (?P<measured>.+); bar .+: (?P<verdict>met|MISSED)$", re.M)

CRASHED = "Traceback (most recent call last)"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PLACES = re.compile(r"(?<![\w./…])(?:[~…]|\.{1,2})?/(?:[^\s/'\":,)]+/)+([^\s/'\":,)]*)")


@dataclass(frozen=True)
class Result:
    """How one script ended, on what code and what machine."""

    name: str
    """Of the script, without bench_ and .py."""
    digest: str
    commit: str
    date: str
    machine: str
    load: float
    """Load average of one minute before it began: what else the machine did."""
    code: int
    seconds: float
    output: str

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or ``crashed``; what crashed is run again."""
        if self.code == 0:
            return "met"
        return "crashed" if self.code != 1 or CRASHED in self.output else "missed"


def digest_of_code(root: Path) -> str:
    """Return a digest of every file a figure may depend on, and of whether the peers are there."""
    total = hashlib.sha256()
    for name in CODE:
        place = root / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            inside = path.relative_to(root)
            # This file only runs the others.
            skipped = {"__pycache__", "results"} & set(inside.parts) or path.name == "run_all.py"
            if path.is_file() and not skipped:
                total.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
                total.update(path.read_bytes())
    total.update(str((root / ".venv-peers" / "bin" / "python").exists()).encode())
    return total.hexdigest()[:16]


def cleaned(text: str, root: Path = ROOT) -> str:
    """Return what a script printed without colours, progress and places of this machine.

    Of a path only its last name stays; this machine's name becomes ``HOST``.
    """
    lines = [line.rsplit("\r", 1)[-1] for line in _ESCAPES.sub("", text).split("\n")]
    body = "\n".join(line.rstrip() for line in lines).strip("\n")
    for place in (root, Path(tempfile.gettempdir()), Path.home()):
        if place != Path("/"):
            body = body.replace(f"{place}/", "…/").replace(str(place), "…")
    body = _PLACES.sub(lambda found: f"…/{found[1]}", body)
    return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "HOST", body)


def machine() -> str:
    """Return processor, cores, memory, system and Python; no name of the machine."""
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{models[0] if models else model}, {model}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"{system}, Python {platform.python_version()}"
    )


def commit() -> str:
    """Return the commit, and whether there are changes beside it."""
    said = _git("rev-parse", "--short=12", "HEAD")
    # The page and the results are written by the runs.
    written = (":(exclude)docs/benchmarks.md", ":(exclude)benchmarks/results")
    dirty = _git("status", "--porcelain", "--", ".", *written)
    return (said or "unknown") + (" with changes" if dirty else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def kept(folder: Path) -> dict[str, Result]:
    """Return the results there are, by name."""
    rows = (json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))
    return {row["name"]: Result(**row) for row in rows}


def keep(folder: Path, result: Result) -> None:
    """Write a result; a file that is there is whole."""
    folder.mkdir(exist_ok=True)
    making = folder / f".{result.name}"
    making.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False))
    making.rename(folder / f"{result.name}.json")


def left(names: Sequence[str], found: Mapping[str, Result], digest: str) -> list[str]:
    """Return which scripts have no result of this code, or crashed."""
    done = {n for n, one in found.items() if one.digest == digest and one.verdict != "crashed"}
    return [name for name in names if name not in done]


def run(name: str, digest: str) -> Result:
    """Run one script, show what it prints, and return how it ended."""
    load, begun, now = os.getloadavg()[0], time.monotonic(), datetime.now(UTC)
    words = [sys.executable, HERE / f"bench_{name}.py"]
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    lines = []
    try:
        with process.stdout as stream:
            for line in stream:
                print(line, end="", flush=True)
                lines.append(line)
        code = process.wait()
    except BaseException:
        # Interrupted: what it started must not go on measuring beside the next one.
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Result(
        name, digest, commit(), f"{now:%Y-%m-%d}", machine(), round(load, 1), code,
        round(time.monotonic() - begun, 1), cleaned("".join(lines)),
    )  # fmt: skip


def _older(one: Result, digest: str) -> str:
    return "" if one.digest == digest else ", other code"


def aims(found: Mapping[str, Result], digest: str) -> list[str]:
    """Return the table of the aims, line by line; what no result tells is not run.

    Results of another code than that of ``digest`` are marked.
    """
    out = ["| aim | measured, with 95 % interval | | commit | date and machine |"]
    out += ["|---|---|---|---|---|"]
    for key, name, words in AIMS:
        one = found.get(name)
        told = {line["key"]: line for line in _AIM.finditer(one.output)} if one else {}
        if key not in told:
            out.append(f"| {words} | not run | | | |")
            continue
        machine = re.sub(r"( GB), .*", r"\1", one.machine)
        of = one.commit + _older(one, digest)
        cells = (words, told[key]["measured"], told[key]["verdict"], of)
        out.append("| " + " | ".join((*cells, f"{one.date}, {machine} |")))
    return out


def page(found: Mapping[str, Result], titles: Mapping[str, str], digest: str) -> str:
    """Return docs/benchmarks.md.

    Parameters
    ----------
    found : mapping of name to Result
    titles : mapping of name to str
        First sentence of every script there is; one without a result is listed as not run.
    digest : str
        Of the code as it is: results of other code are marked.
    """
    out = [
        "# Benchmarks",
        "",
        "## Aims of learning",
        'On two CPU cores, from what the scripts below printed; "not run": not to its end, by no '
        "script. A miss is told as a miss.",
        "",
        *aims(found, digest),
        "",
        "## Scripts",
        "Written by `make bench`; do not edit. A line a script; each ends well only when all its "
        "bars are met. Load is that of the machine before the script began: where it is far from "
        "0, others worked beside it, and seconds by the clock say little.",
        "",
        "| script | bars | missed | minutes | load | commit |",
        "|---|---|---|---|---|---|",
    ]
    for name in titles:
        one = found.get(name)
        if one is None:
            out.append(f"| `bench_{name}` | not run | | | | |")
            continue
        misses = sum(bool(MISSES.search(line)) for line in one.output.splitlines())
        out.append(
            f"| [`bench_{name}`](#bench_{name}) | {one.verdict} | {misses or ''} | "
            f"{one.seconds / 60:.1f} | {one.load:.1f} | {one.commit}{_older(one, digest)} |"
        )
    for name, title in titles.items():
        if one := found.get(name):
            out += ["", f"## bench_{name}", title, "", f"{one.date}, {one.machine}"]
            out += ["", "```text", one.output.replace("```", "'''"), "```"]
    return "\n".join(out) + "\n"


def titles() -> dict[str, str]:
    """Return the first line of every script's docstring by its name."""
    found = {}
    for path in sorted(HERE.glob("bench_*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or path.stem
        found[path.stem.removeprefix("bench_")] = said.splitlines()[0]
    return found


def main() -> int:
    """Run what is left, write the page after each script; 1 when one is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names without bench_, by commas")
    parser.add_argument("--fresh", action="store_true", help="run what is done as well")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    asked = parser.parse_args()
    known, digest = titles(), digest_of_code(ROOT)
    wanted = [name for name in asked.only.split(",") if name] or list(known)
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"no script bench_{unknown[0]}.py; there are {', '.join(known)}")
    todo = wanted if asked.fresh else left(wanted, kept(RESULTS), digest)
    for name in [] if asked.page else todo:
        print(f"== bench_{name}: {known[name]}", flush=True)
        keep(RESULTS, run(name, digest))
        PAGE.write_text(page(kept(RESULTS), known, digest))
    found = kept(RESULTS)
    PAGE.write_text(page(found, known, digest))
    for name in wanted:
        print(f"bench_{name:20} {found[name].verdict if name in found else 'not run'}")
    return int(any(name not in found or found[name].verdict != "met" for name in wanted))


if __name__ == "__main__":
    sys.exit(main())
