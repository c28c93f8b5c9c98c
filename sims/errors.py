"""Errors of the command line that are no fault of its input."""


class RunFailedError(RuntimeError):
    """A run ended without a result, and its input was not refused."""


class RunLostError(RunFailedError):
    """Nobody can say how a run stands; it may still be going on."""
