"""Errors that somebody catches by name; everything else is a builtin."""


class RadloopError(Exception):
    """An error a user can act on: the command line prints it as one sentence and exits with 1."""


class BadCase(RadloopError):
    """One case or file that cannot be used; becomes a quarantine row and never stops a run.

    Parameters
    ----------
    reason : str
        Short snake_case word that groups such cases, e.g. ``"missing_slices"``.
    detail : str
        One sentence with the value, the limit and the remedy; holds no identifier.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # The default would rebuild it from the joined message and lose the two parts on a worker.
        return type(self), (self.reason, self.detail)


class StoreError(RadloopError):
    """A part that is missing, damaged or of another format version."""


class ScenarioError(RadloopError):
    """A scenario file that cannot be obeyed."""


class LeaseHeld(RadloopError):
    """Another run holds the scenario or the store."""


class EditionMismatch(RadloopError):
    """Figures of different test editions were about to be compared."""


class LeakageError(RadloopError):
    """A patient stands on both sides of a split."""


class ModelRefused(RadloopError):
    """A registered model that is not what its manifest says, or holds something executable."""
