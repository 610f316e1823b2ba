"""Memory and open files stay where they are, however many series a run has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.phantom.ct import write_ct_series

SERIES = 5000
PARTS = 25
WRITTEN = 20
"""Series that are really on disk: each is read again under many case ids."""

MOST_MB = 1.0
"""Growth of the resident memory a 1,000 series."""

MOST_FILES = 2
"""Open files more at the end than after the warm-up; one may be a log or a database's own."""

WORKER = """
import json, os, sys
from pathlib import Path
from flows.live import telling
from tasks.archive.orders import OrderCase, WorkOrder
from tasks.archive.sources import FileRef, digest_of
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.store.fill import write_image_part
from tasks.store.schema import part_id
from tests.flows.test_bounded import look

archive, root, series, parts = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
recipe = fit(parse_steps([{"step": "normalise"}]), None)
def ref(file):
    data = file.read_bytes()
    return FileRef(str(file), None, digest_of(data).hex(), len(data))
folders = [tuple(map(ref, sorted(place.iterdir()))) for place in sorted(archive.iterdir())]
seen = []
for number in range(parts):
    ids = [f"{case:032x}" for case in range(number, series, parts)]
    cases = tuple(OrderCase(c, "dicom", folders[i % len(folders)], None) for i, c in enumerate(ids))
    own = part_id(ids, "7" * 32, "image")
    record = write_image_part(root, WorkOrder(own, "7" * 32, cases), recipe, telling(own))
    assert len(record.case_ids) == len(ids), record.failures[:1]
    seen.append((len(ids) * (number + 1), *look()))
print(json.dumps(seen))
"""

COORDINATOR = """
import json, sys
from pathlib import Path
from flows.home import Home
from flows.live import Tally
from flows.orders import orders_of
from flows.settings import Settings
from tasks.archive.catalog import InstanceRow, SeriesRow, cases, upsert_series
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.archive.orders import WorkOrder, seal
from tasks.archive.sources import Source
from tasks.archive.vault import put_source
from tasks.archive.vault_files import FileSeen, put_files
from tasks.store.write import PartRecord
from tests.flows.test_bounded import look

folder, series, parts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
home = Home(Settings(home=folder))
put_source(home.vault, Source("pacs", "folder", str(folder)))
seen = [FileSeen(f"{n}.dcm", "", 9, 9, n.to_bytes(16, "big"), "instance") for n in range(series)]
locators = put_files(home.vault, "pacs", seen)
rows = [
    SeriesRow(f"{n:032x}", f"{n:032x}", f"{n:032x}", None, "dicom", "pacs", {"modality": "CT"},
              (InstanceRow(f"{n:032x}", 0.0, f"{n:032x}", locators[n]),))
    for n in range(series)
]
upsert_series(home.catalog, rows)
ids = [case.case_id for case in cases(home.catalog, kind="dicom")]
recipe = "7" * 32
put_recipe(home.catalog, recipe, "big", {}, "")
want_cases(home.catalog, recipe, ids)
size = series // parts
names = [f"{number:032x}" for number in range(parts)]
tally, samples = Tally({name: (size, 1.0) for name in names}), []
for number, name in enumerate(names):
    held = tuple(ids[number * size : (number + 1) * size])
    chosen = cases(home.catalog, kind="dicom", case_ids=held)
    seal(WorkOrder(name, recipe, tuple(orders_of(home, chosen))), home.settings.order_key)
    for count in range(size):
        tally.hear({"part": name, "cases": count, "bytes": 9, "failed": {}})
        tally.line()
    commit_part(home.catalog, PartRow(name, "image", recipe, None, None, name, held, 9, name))
    tally.land(PartRecord(name, "image", name, held, 9, name, (), 1.0, 0))
    samples.append((size * (number + 1), *look()))
print(json.dumps(samples))
"""


def look() -> tuple[float, int]:
    """Return resident megabytes and open files of this process."""
    import gc

    import psutil

    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss / 1e6, process.num_fds()


def growth(samples: list[tuple[int, float, int]]) -> tuple[float, int]:
    """Return megabytes a 1,000 series, by least squares over the last three quarters, and files."""
    steady = samples[len(samples) // 4 :]
    mean = sum(count for count, _, _ in steady) / len(steady)
    spread = sum((count - mean) ** 2 for count, _, _ in steady)
    slope = sum((count - mean) * size for count, size, _ in steady) / spread
    return 1000 * slope, steady[-1][2] - steady[0][2]


def run(program: str, *words: object) -> list[tuple[int, float, int]]:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_growth_is_measured_right():
    leaking = [(n, 100 + 0.002 * n, 10 + n // 500) for n in range(0, 5000, 200)]
    assert growth(leaking) == (pytest.approx(2.0), 7)
    assert growth([(n, 100.0, 10) for n in range(0, 5000, 200)]) == (pytest.approx(0.0), 0)


@pytest.mark.slow
def test_a_worker_that_makes_5000_series_does_not_grow(tmp_path):
    for number in range(WRITTEN):
        write_ct_series(tmp_path / "archive" / f"{number:02}", shape=(4, 32, 32), seed=number)
    samples = run(WORKER, tmp_path / "archive", tmp_path / "store", SERIES, PARTS)
    megabytes, files = growth(samples)
    assert megabytes < MOST_MB
    assert files <= MOST_FILES


@pytest.mark.slow
def test_a_coordinator_that_commits_5000_series_does_not_grow(tmp_path):
    megabytes, files = growth(run(COORDINATOR, tmp_path, SERIES, PARTS))
    assert megabytes < MOST_MB
    assert files <= MOST_FILES
