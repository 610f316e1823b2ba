"""A network of several seeds through the command: killed, gone on with, and its spread shown."""

from collections.abc import Iterator

import pytest

from tasks.phantom.write import write_limb_archive
from tasks.serve.names import load_names
from tasks.serve.seeds import HEADING
from tasks.serve.tracking import Tracker, search
from tests.flows.conftest import LIMB, LOOP_SECONDS
from tests.flows.running import Place

FOLDS, SEEDS = 2, 3
SCENARIO = LIMB.replace("small_cnn, epochs: 2", f"small_cnn, epochs: 2, seeds: {SEEDS}")


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """A home with an archive and a scenario."""
    place = Place(tmp_path)
    write_limb_archive(place.folder / "archive", patients=40, seed=12)
    (place.folder / "small-limb.yaml").write_text(SCENARIO)
    yield place
    left = place.close()
    assert not left, left


def done(place: Place) -> dict[str, tuple[int, int]]:
    """Return when each fold that is done was written, and as which file, by its folder's name."""
    files = (place.home / "training").glob("*/*/small-cnn/*/fold.safetensors")
    return {one.parent.name: (one.stat().st_mtime_ns, one.stat().st_ino) for one in files}


@pytest.mark.slow
@pytest.mark.timeout(LOOP_SECONDS)
def test_a_killed_training_goes_on_with_its_seeds_and_tells_their_spread(place: Place) -> None:
    scenario, archive = place.folder / "small-limb.yaml", place.folder / "archive"
    place.kill_once(
        lambda: any("seed" in name for name in done(place)),
        *("retrain", scenario, "--source", archive),
        seconds=300,
    )
    before = done(place)
    assert any("seed" in name for name in before)

    ran = place.radloop("retrain", scenario, "--source", archive, timeout=600).ok()
    after = done(place)
    assert before.items() <= after.items()  # nothing that was done was trained again
    own = {f"fold{fold}" for fold in range(FOLDS)}
    further = {f"fold{fold}-seed{n}" for fold in range(FOLDS) for n in range(1, SEEDS)}
    assert after.keys() == own | further
    assert f"small-cnn, {SEEDS} seeds: auroc" in ran.err + ran.out

    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "small-limb", load_names())
    (run,) = search(tracker, "tags.kind = 'candidate' and tags.candidate = 'small-cnn'")
    assert run.data.params["seeds"] == str(SEEDS)
    lowest, mean, highest, own = (
        run.data.metrics[f"oof/{name}"]
        for name in ("seeds_lowest", "seeds_mean", "seeds_highest", "auroc")
    )
    assert lowest < mean < highest
    assert lowest <= own <= highest
    assert len(search(tracker, "tags.kind = 'fold'")) == FOLDS
    (report,) = (place.home / "reports" / "small-limb").glob("*.html")
    row = report.read_text().partition(HEADING)[2].partition("</tbody>")[0]
    told = "".join(f"<td>{value:.3f}</td>" for value in (own, lowest, mean, highest))
    assert f"<td>small-cnn</td><td>{SEEDS}</td>{told}" in row
