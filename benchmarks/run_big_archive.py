"""A large archive through `radloop preprocess` on two cores, killed and resumed: where time went.

    python benchmarks/run_big_archive.py FOLDER [--small 5000] [--ct 60] [--kill-at 0.2 0.5]
    python benchmarks/run_big_archive.py FOLDER --small 2000 --recipe whole --kill-at

FOLDER keeps the archive (series are made once; a run that was stopped goes on) and the homes. The
archive is small CT series of 24 slices of 128 x 128 and full ones of 120 slices of 512 x 512, the
latter a third each native, JPEG lossless and JPEG 2000. One home runs undisturbed, where time is
measured; a copy of it as it was before is killed with -9, command and workers as one process
group, when the stated shares of its cases are staged or committed, and started again each time
(`--kill-at` without a share: not at all).

The recipe is the lightest there is, a window, where the machinery around the work weighs most; or
`whole`: denoise, segment, resample, measure, crop, resize and window, as a study's recipe does.

Printed: the undisturbed run's seconds by stage of its parts, by process and as shares of wall x
cores, beside what the plan said; what the killed runs took in all; and whether both stores hold
the same parts with the same digests. Exit code 1 when they do not, or a bar is missed.
"""

import argparse
import csv
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1
from run_taken import Sampler, moments, parts_table

from tasks.archive.catalog import open_catalog
from tasks.archive.commits import all_parts
from tasks.phantom.ct import write_ct_series
from tasks.phantom.write import MARK
from tasks.store.spent import STAGES

CORES = 2
WORK_BAR, OVERHEAD_BAR = 0.90, 0.02
"""Pure work over wall x cores; Prefect, Dask, catalog and coordinator over the work."""

SYNTAXES = (ExplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless)
SMALL, FULL = (24, 128, 128), (120, 512, 512)
FIRST_FULL = 1_000_000

SCENARIO = """\
name: big
title: A large made archive
task: classification
synthetic: true
intended_use: A benchmark. Research use only.
not_for: Anything clinical; no image shows a person.
population: Nobody. Drawn by a program.
cohort: {kind: dicom, modality: CT}
labels: {format: table, file: labels.csv, join: accession, column: target,
         classes: [calm, ill], positive: ill}
recipe:
%s
split: {source: keyed, test: 0.2, folds: 2, strata: []}
candidates: [{name: small-cnn, kind: network, network: small_cnn, epochs: 1}]
evaluate: {primary: auroc}
"""

RECIPES = {
    "window": "  - {step: window, name: lung}",
    "whole": """\
  - {step: straighten}
  - {step: reorient}
  - {step: non_local_means}
  - {step: body}
  - {step: resample, spacing: [2.0, 1.0, 1.0]}
  - {step: features, mask: body, families: [intensity, shape, glcm], resegment: [-1000, 1000],
     bin_width: 25}
  - {step: crop_to_mask, mask: body, margin_mm: 5}
  - {step: resize, shape: [64, 160, 160]}
  - {step: window, name: soft_tissue}""",
}


def make_archive(folder: Path, small: int, full: int) -> None:
    """Write the series that are not there yet, and their labels."""
    wanted = [(n, SMALL, ExplicitVRLittleEndian) for n in range(small)]
    wanted += [(FIRST_FULL + n, FULL, SYNTAXES[n % 3]) for n in range(full)]
    for seed, shape, syntax in wanted:
        place = folder / f"{seed // 100:05d}" / f"{seed:07d}"
        if place.exists():
            continue
        beside = folder.parent / "making" / f"{seed:07d}"
        shutil.rmtree(beside, ignore_errors=True)
        write_ct_series(beside, shape=shape, seed=seed, syntax=syntax)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when whole: a folder that is there is finished.
        beside.rename(place)
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["accession_number", "target"])
        rows.writerows([f"{MARK}CT{seed:07d}", ("calm", "ill")[seed % 2]] for seed, _, _ in wanted)


def environment(home: Path, workers: int = CORES) -> dict[str, str]:
    """Return what the commands run under."""
    names = ("RADLOOP_", "PREFECT_", "MLFLOW_", "DASK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return kept | {"RADLOOP_HOME": str(home), "RADLOOP_WORKERS": str(workers)}


def radloop(home: Path, *words: str, log: Path) -> subprocess.Popen:
    """Start a command in a process group of its own, what it says in a log."""
    stream = log.open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, what: str, log: Path) -> None:
    """Wait for a command, which has to end well."""
    if process.wait():
        raise SystemExit(f"{what} ended {process.returncode}; see {log.name}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def settled(home: Path) -> int:
    """Return the cases that are committed or staged."""
    staged = sum(1 for _ in (home / "store" / "staging").glob("*/cases/*.case"))
    with sqlite3.connect(f"file:{home / 'catalog.db'}?mode=ro", uri=True) as catalog:
        (done,) = catalog.execute("SELECT count(*) FROM work WHERE state = 'done'").fetchone()
    catalog.close()
    return staged + done


def digests(home: Path) -> dict[str, str]:
    """Return the digest of every part by its cases: equal stores hold equal ones."""
    catalog = open_catalog(f"sqlite:///{home / 'catalog.db'}")
    found = {part.part_id: part.digest for part in all_parts(catalog)}
    catalog.dispose()
    return found


def forget(archive: Path) -> None:
    """Put the archive's files out of the system's cache: a hospital's archive never fits in it."""
    os.sync()
    for path in archive.rglob("*.dcm"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def calm_run(home: Path, log: Path) -> bool:
    """Run undisturbed and print where the time went; say whether the bars were met."""
    # On a schedule it runs already; a cold one takes half a minute of a core, once a home.
    begun = time.monotonic()
    finish(radloop(home, "ui", log=log), "ui", log)
    print(f"servers up after {time.monotonic() - begun:.1f} s, not counted below", flush=True)
    sampler = Sampler(home)
    before = sampler.core_seconds_now()
    sampler.start()
    begun = time.time()
    finish(radloop(home, "preprocess", "big", log=log), "preprocess", log)
    ended = time.time()
    wall = ended - begun
    sampler.done.set()
    sampler.join()
    rows, cores = parts_table(home), sampler.core_seconds()
    cores = {role: seconds - before.get(role, 0.0) for role, seconds in cores.items()}
    work = sum(row["core_seconds"] for row in rows) + cores.get("decoders", 0.0)
    cases = sum(row["cases"] for row in rows)
    print(f"\nundisturbed: {cases} cases in {len(rows)} parts, {wall:.1f} s")
    for line in _plan_lines(log):
        print(f"  planned: {line}")
    print(f"  {'stage of a part':28} {'wall s':>9}  share of wall x {CORES}")
    for stage in STAGES:
        seconds = sum(row.get(stage, 0.0) for row in rows)
        print(f"  {stage:28} {seconds:9.1f}  {seconds / wall / CORES:6.1%}")
    busy = sum(row["seconds"] for row in rows)
    print(f"  {'all in parts':28} {busy:9.1f}  {busy / wall / CORES:6.1%}")
    print(f"  {'start, queue, commit, idle':28} {wall * CORES - busy:9.1f}  "
          f"{1 - busy / wall / CORES:6.1%}")  # fmt: skip
    for moment, seconds in moments(home, begun, ended).items():
        print(f"  {moment:28} {seconds:9.1f}")
    print(f"  {'process':28} {'core s':>9}")
    for role, seconds in sorted(cores.items()):
        print(f"  {role:28} {seconds:9.1f}  {seconds / wall / CORES:6.1%}")
    beside = sum(cores.values()) - work
    print(f"  pure work {work:.1f} core s: {work / wall / CORES:.3f} of wall x {CORES} "
          f"(bar {WORK_BAR}); all else {beside:.1f} core s, {beside / work:.1%} of the work "
          f"(bar {OVERHEAD_BAR:.0%})")  # fmt: skip
    return work / wall / CORES >= WORK_BAR and beside / work <= OVERHEAD_BAR


def _plan_lines(log: Path) -> list[str]:
    words = (" of at most ", "before compression", "of memory a worker", "of one core")
    lines = log.read_text(errors="replace").splitlines()
    return [line.strip() for line in lines if any(word in line for word in words)]


def killed_run(home: Path, shares: list[float], cases: int, log: Path) -> float:
    """Run, kill the whole process group at the stated shares, resume; return the seconds in all."""
    spent = 0.0
    for share in shares:
        begun = time.monotonic()
        process = radloop(home, "preprocess", "big", log=log)
        while settled(home) < share * cases:
            if process.poll() is not None:
                raise SystemExit(f"the run ended before {share:.0%} were settled:\n{_tail(log)}")
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        spent += time.monotonic() - begun
        print(f"killed with {settled(home)} of {cases} cases staged or committed")
    begun = time.monotonic()
    finish(radloop(home, "preprocess", "big", log=log), "preprocess", log)
    return spent + time.monotonic() - begun


def prepare(folder: Path, archive: Path, recipe: str) -> Path:
    """Return a home whose catalog holds the archive and whose store is empty."""
    home, log = folder / f"prepared-{archive.name}-{recipe}", folder / "ingest.log"
    if (home / "ready").exists():
        return home
    (home / "scenarios").mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    (home / "scenarios" / "big.yaml").write_text(SCENARIO % RECIPES[recipe])
    begun = time.monotonic()
    try:
        finish(radloop(home, "ingest", str(archive), "--labels-of", "big", log=log), "ingest", log)
    finally:
        finish(radloop(home, "ui", "--stop", log=log), "ui --stop", log)
    print(f"ingested in {time.monotonic() - begun:.1f} s")
    (home / "ready").touch()
    return home


def copied(prepared: Path, home: Path) -> Path:
    """Return a copy of the prepared home: same key, so the same cases and the same parts."""
    shutil.rmtree(home, ignore_errors=True)
    for name in ("catalog.db", "vault.db"):
        with sqlite3.connect(prepared / name) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
    shutil.copytree(prepared, home, ignore=shutil.ignore_patterns("prefect", "*-wal", "*-shm"))
    home.chmod(0o700)
    return home


def main() -> int:
    """Make the archive, run both homes, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", type=int, default=5000)
    parser.add_argument("--ct", type=int, default=60)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="window")
    parser.add_argument("--kill-at", type=float, nargs="*", default=[0.2, 0.5])
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    archive = folder / f"archive-{asked.small}-{asked.ct}"
    archive.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {asked.small} series of {SMALL}, "
          f"{asked.ct} of {FULL}; recipe {asked.recipe}", flush=True)  # fmt: skip
    begun = time.monotonic()
    make_archive(archive, asked.small, asked.ct)
    print(f"archive there after {time.monotonic() - begun:.0f} s", flush=True)
    for log in folder.glob("*.log"):
        # What an earlier run planned is none of this one's plan.
        log.unlink()
    prepared = prepare(folder, archive, asked.recipe)
    calm = copied(prepared, folder / "calm")
    try:
        forget(archive)
        met = calm_run(calm, folder / "calm.log")
    finally:
        radloop(calm, "ui", "--stop", log=folder / "stop.log").wait()
    if not asked.kill_at:
        return int(not met)
    killed = copied(prepared, folder / "killed")
    try:
        cases = asked.small + asked.ct
        seconds = killed_run(killed, asked.kill_at, cases, folder / "killed.log")
    finally:
        radloop(killed, "ui", "--stop", log=folder / "stop.log").wait()
    print(f"killed {len(asked.kill_at)} times: {seconds:.1f} s in all")
    one, other = digests(calm), digests(killed)
    same = one == other
    print(f"{len(one)} parts, digests {'equal' if same else 'DIFFER'}")
    return int(not (same and met))


if __name__ == "__main__":
    sys.exit(main())
