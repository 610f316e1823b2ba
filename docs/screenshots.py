"""Take the pictures of the README from a home in which a scenario was trained and applied.

    python docs/screenshots.py HOME SCENARIO RESULTS

HOME is a radloop home, RESULTS a folder that `radloop predict` wrote. Needs Chromium
(`make servers`); both servers are started on loopback and ended again.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from flows.evidence import tracker_for
from flows.home import Home
from flows.server import ensure_server, stop_server
from flows.settings import load_settings, point_to_prefect, prepare_environment
from tasks.serve.comparing import compare_url
from tasks.serve.registry import get_alias
from tasks.serve.tracking import children_of

IMAGES = Path(__file__).parent / "images"

SETTLE_MS = 7000
"""Both web pages draw themselves after loading; less leaves spinners in the picture."""


def main() -> int:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("scenario")
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        print("no Chromium on the PATH; `make servers` installs it", file=sys.stderr)
        return 1
    settings = load_settings(args.home)
    prepare_environment(settings)
    prefect, _ = ensure_server(settings, "prefect")
    mlflow, _ = ensure_server(settings, "mlflow")
    point_to_prefect(f"{prefect.url}/api")
    tracker = tracker_for(Home(settings), args.scenario)
    champion = get_alias(tracker, args.scenario, "champion") or get_alias(
        tracker, args.scenario, "challenger"
    )
    children = children_of(tracker, champion.run_id, "candidate")
    report = settings.home / "reports" / args.scenario / f"{champion.run_id}.html"
    pages = {
        "compare": (compare_url(mlflow.url, tracker, children), 2200, 1300),
        "flow-run": (f"{prefect.url}/runs/flow-run/{_last_run('retrain')}", 1500, 950),
        "report": (report.resolve().as_uri(), 1200, 1500),
        "predictions": ((args.results / "index.html").resolve().as_uri(), 1200, 1000),
    }
    IMAGES.mkdir(exist_ok=True)
    try:
        _shoot(browser, pages)
    finally:
        stop_server(settings, "prefect")
        stop_server(settings, "mlflow")
    return 0


def _shoot(browser: str, pages: dict[str, tuple[str, int, int]]) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        for name, (url, width, height) in pages.items():
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.goto(url, wait_until="domcontentloaded")
            page.wait_for_timeout(1000 if url.startswith("file") else SETTLE_MS)
            # MLflow opens an assistant; a toast that lies over its button is no reason to wait.
            close = page.get_by_role("button", name=re.compile("close", re.IGNORECASE))
            if close.count():
                close.first.click(force=True)
                page.wait_for_timeout(500)
            page.screenshot(path=IMAGES / f"{name}.png")
            print(IMAGES / f"{name}.png")
            page.close()
        chromium.close()


def _last_run(flow: str) -> str:
    """Return the id of the newest run of a flow."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
    return str(runs[0].id)


if __name__ == "__main__":
    sys.exit(main())
