"""Requests, texts and covariance of a run: read whole, or as far as tells enough."""

from pathlib import Path

from editing.base.errors import InputError
from editing.covariance.texts import check_local_text, hub_text
from editing.hyperparameters.choice import choose_hyperparameters
from editing.models.loading import load_tokenizer
from editing.sources.embedded import HUB, SELF
from server.app import choose_methods
from server.config import RunConfig
from sims.runs.checks import check_fit, find_requests
from strategies.scenario import COMPUTE, FEDERATED


def read_merges(config: RunConfig) -> str:
    """Name the merges of the run."""
    return ", ".join(method.name for method in choose_methods(config))


def read_hyperparameters(config: RunConfig, path: str) -> str:
    """Name the layers, and where the values are from."""
    chosen = choose_hyperparameters(config.editing, path)
    layers = ", ".join(map(str, chosen.parameters.layers))
    return f"layers {layers}, from {chosen.origin}"


def read_requests(config: RunConfig) -> str:
    """Read all requests, and partition them as the run does."""
    found = find_requests(config)
    taken = sum(
        size
        for number in range(1, config.run.rounds + 1)
        for size in config.parties.sizes_of(number)
    )
    return f"{len(found)} in {config.requests.source}, of which {taken} are edited"


def fit_requests(config: RunConfig, path: str) -> str:
    """Tokenize the requests and the prompts that evaluate them."""
    try:
        load_tokenizer(path)
        found = find_requests(config)
    except InputError:  # each has a line of its own
        raise InputError("not known without tokenizer and requests") from None
    check_fit(path, found, config.evaluation)
    return "all prompts fit the model's context"


def find_prior(config: RunConfig, path: str) -> str:
    """Find the covariance's files, or the text that it is estimated on.

    Raises:
        InputError: If a file is missing, or the text cannot be read.
    """
    named = config.prior.covariance
    if isinstance(named, str) and named in {COMPUTE, FEDERATED}:
        return f"estimated on {read_text(config, path)}"
    files = [named] if isinstance(named, str) else list(named)
    for file in files:
        if not Path(file).exists():
            raise InputError(
                f"`prior.covariance` {file!r}: there is no such file or folder. Make "
                f"one with `python -m sims covariance`, or set it to `{COMPUTE}`"
            )
    return ", ".join(files)


def read_text(config: RunConfig, path: str) -> str:
    """Read the first document of the text.

    Raises:
        InputError: If it cannot be read, or is empty.
    """
    text = config.prior.text
    if text == SELF:
        return "text that the model generates"
    if not text.startswith(HUB):
        check_local_text(text, path)
        return text
    if next(iter(hub_text(text).stream(0)), None) is None:
        raise InputError(f"`prior.text` {text!r} has no document")
    return text
