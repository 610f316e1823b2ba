"""What every command needs first: the home and, where flows run, the engine."""

import argparse
import logging
import time

from flows.console import say
from flows.home import Home
from flows.server import ensure_server
from flows.settings import (
    Settings,
    load_settings,
    point_to_prefect,
    prepare_environment,
    quiet_engines,
)

_QUIET = ("prefect", "distributed", "dask", "mlflow", "alembic", "httpx", "fsspec")


def open_home(args: argparse.Namespace) -> Home:
    """Find the home, prepare the environment and say which home it is."""
    settings = load_settings(args.home)
    prepare_environment(settings)
    if not args.verbose:
        silence_engines()
    if not getattr(args, "json", False):
        say(f"home {settings.home}")
    return Home(settings)


def open_engine(args: argparse.Namespace) -> Home:
    """Open the home and make sure that a Prefect server answers; ours when none is set."""
    home = open_home(args)
    use_engine(home)
    return home


def use_engine(home: Home) -> None:
    """Make sure that a Prefect server answers; ours when none is set."""
    if home.settings.prefect_api_url:
        say(f"Prefect server {home.settings.prefect_api_url}")
        return
    started = time.monotonic()
    server, fresh = ensure_server(home.settings, "prefect")
    point_to_prefect(f"{server.url}/api")
    if fresh:
        from flows.policy import crash_zombies

        crash_zombies()
        seconds = time.monotonic() - started
        say(f"started Prefect at {server.url} in {seconds:.0f} s (`radloop ui --stop` ends it)")


def silence_engines() -> None:
    """Let the engines speak only of errors; our own lines say what happens."""
    quiet_engines()
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def mlflow_page(settings: Settings) -> str:
    """Return the address of MLflow's pages, starting our own server when the URI is a database."""
    if settings.tracking_uri.startswith("http"):
        return settings.tracking_uri
    server, _ = ensure_server(settings, "mlflow")
    return server.url
