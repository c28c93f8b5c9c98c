"""What is validated of a run before anything is started."""

from collections.abc import Sequence
from pathlib import Path

from clients.own_requests import find_shares
from editing.base.errors import InputError
from editing.covariance.texts import check_local_text
from editing.hyperparameters.choice import choose_hyperparameters
from editing.models.loading import load_tokenizer
from editing.models.token_rows import BARE, tokenize_rewrite
from editing.requests.edit_request import EditRequest
from editing.sources.embedded import resolve_model
from server.config import RunConfig
from server.output import refuse_existing
from sims.runs.engines import check_engine, has_own_nodes
from strategies.partitioning.partitions import check_supply
from strategies.scenario import FEDERATED


def check_early(config: RunConfig, folder: Path, engine: str = "") -> None:
    """Validate in a second what a run would refuse after a minute."""
    refuse_existing(folder)
    check_engine(config, engine)
    path = config.model.path
    if not has_own_nodes(engine):  # their machines may have the model elsewhere
        path = resolve_model(path)
    if config.editing.hyperparameters is not None:
        choose_hyperparameters(config.editing, path)
    if has_own_nodes(engine):
        return
    if config.prior.covariance == FEDERATED:
        # A party only reports that its text is invalid; here all have the same one.
        check_local_text(config.prior.text, path)
    shares = find_shares(config.model, config.requests, config.parties)
    check_supply(
        len(shares.pool), config.parties, config.run.rounds, config.requests.source
    )
    planted = [
        request
        for number in range(1, config.run.rounds + 1)
        for own in shares.in_round(number)
        for request in own.contradictions
    ]
    check_fit(path, [*shares.pool, *planted])


def check_fit(model_path: str, requests: Sequence[EditRequest]) -> None:
    """Validate that requests fit the model's context, by its tokenizer alone.

    Raises:
        InputError: Naming the first request that is too long.
    """
    tokenizer, longest = load_tokenizer(model_path)
    for request in requests:
        row, target = tokenize_rewrite(tokenizer, BARE, request)
        length = len(row.ids) + len(target)
        if length > longest:
            raise InputError(
                f"Request {request.case_id}: subject, prompt and target take {length} "
                f"tokens and the model reads {longest}. Shorten the subject or prompt."
            )
