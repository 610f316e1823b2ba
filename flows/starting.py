"""Weights a candidate starts from: found before anything is trained, and said what of them fits."""

from typing import Any

from flows.console import say
from flows.home import Home
from tasks.errors import RadloopError
from tasks.hashing import sha256_file
from tasks.learn.job import TrainingJob
from tasks.learn.weights import find_weights, load_weights


def candidate_body(home: Home, candidate: Any) -> dict[str, Any]:
    """Return a candidate as a job holds it, with the SHA-256 of the file it starts from.

    Where the file is away the sum stays out: only a training needs it, and says so.
    """
    body = candidate.model_dump(mode="json")
    if body.get("weights") and not body["weights_sha256"]:
        try:
            body["weights_sha256"] = sha256_file(find_weights(body["weights"], home.settings.home))
        except RadloopError:
            return body
    return body


def check_weights(home: Home, job: TrainingJob) -> None:
    """Say of each candidate's file what of it fits its network.

    Raises
    ------
    RadloopError
        When a file is away, is another one than the scenario wants, or does not fit.
    """
    named = [body for body in job.candidates if body.get("weights")]
    for body in named:
        from tasks.learn.networks import build_network

        path = find_weights(body["weights"], home.settings.home)
        network = build_network(job.plan(job.candidate(body["name"])))
        try:
            fit = load_weights(network, path, body["weights_sha256"])
        except ValueError as error:
            raise RadloopError(f"{body['name']}: {error}") from error
        say(f"  {body['name']} starts from {path.name}: {fit.sentence}")
