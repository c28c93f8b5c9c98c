"""Errors of the command line that are no fault of its input."""


class RunFailedError(RuntimeError):
    """A run ended without a result, and its input was not refused."""


class RunLostError(RunFailedError):
    """The state of a run is unknown; it may still be running."""
