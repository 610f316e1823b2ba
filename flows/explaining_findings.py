"""Explaining a detector that is to be registered: what its surest findings rest on."""

from pathlib import Path

from flows.cohorts import Ready
from flows.console import progress, say
from flows.home import Home
from flows.probing import orders_of_cases
from tasks.evaluate.config import EXPLAINED_FINDINGS
from tasks.evaluate.explanation_figure import LookPanel, draw_looks
from tasks.evaluate.saliency import pointing
from tasks.learn.job import TrainingJob
from tasks.learn.model import load_model
from tasks.learn.stressed import sample_cases
from tasks.serve.probes import Probe


def covered(home: Home, ready: Ready, job: TrainingJob, folder: Path, pictures: Path) -> Probe:
    """Cover parts of the image around the best finding of some test cases."""
    # It imports torch, which only networks need.
    from tasks.learn.covering import ITS_BOX, TRUE_BOX, Covered, cover_cases

    config = ready.scenario.evaluate
    wanted = EXPLAINED_FINDINGS if config.explain.cases is None else config.explain.cases
    if not wanted:
        return Probe()
    model = load_model(folder, trusted=ready.scenario.networks)
    if model.spec.kind != "network":
        say("  not explained: a classical detector says what it measured, and no network is asked")
        return Probe()
    sample = sample_cases(job.on("test"), wanted)
    truth = {case.case_id: case.boxes for case in sample}
    orders = orders_of_cases(home, ready, sample)
    say(f"  explanations: the surest finding of {len(sample)} test cases, covered part by part")
    found: list[Covered] = []
    with progress("explaining", total=len(orders), unit="cases") as advance:
        asked = cover_cases(model, ((order, truth[order.case_id]) for order in orders))
        for number, (_, one) in enumerate(asked, start=1):
            found += [] if one is None else [one]
            advance(number, len(orders))
    if not found:
        say("  not explained: in none of these cases a network found anything")
        return Probe()
    panels = []
    for one in found:
        at = int(one.masks[ITS_BOX].sum((1, 2)).argmax()) if ITS_BOX in one.masks else 0
        hit = "in a true box" if TRUE_BOX in one.masks else "in no true box"
        caption = (
            f"{model.spec.classes[one.label]} {one.score:.2f}, {hit}\n"
            f"one network {one.base:.2f}, at least {one.least:.2f}"
        )
        box = one.masks.get(ITS_BOX)
        maps = {"covering": one.fall[at]}
        panels.append(LookPanel(one.image[at], caption, maps, None if box is None else box[at]))
    pictures.mkdir(parents=True, exist_ok=True)
    path = draw_looks(
        pictures / "test-covered.png", panels, title=f"{model.spec.candidate}, test findings"
    )
    figure = {
        "path": str(path),
        "title": "What findings rest on, test",
        "caption": "The surest finding of a case, its box in yellow. Red: covering there makes its "
        "score fall; blue: rise. Covers are as large as the box, filled with the median of what is "
        f"around, at steps of half of it. {len(sample) - len(found)} of {len(sample)} cases had "
        "no finding to explain.",
    }
    pointed = [one.pointed() for one in found]
    row = pointing(pointed, replicates=config.bootstrap, seed=config.seed)
    return Probe(
        (figure,),
        {"explanations": [one.to_row() for one in pointed]},
        {"Explanations": (row,)},
    )
