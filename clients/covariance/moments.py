"""The second moment of a party's own texts, for a covariance of all parties' texts."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from clients.settings import ClientConfig
from editing.algebra.second_moments import TextMoment
from editing.covariance.covariance import NoTokenError, compute_covariance
from editing.covariance.sums import SINGLE
from editing.covariance.texts import (
    Document,
    TextError,
    TextSource,
    open_text,
    split_name,
)
from editing.models.loading import EditableModel
from editing.sources.embedded import resolve_model


def find_own_texts(model: EditableModel, config: ClientConfig) -> Iterable[Document]:
    """The texts that this party alone holds, from the file of its node config.

    In a simulation they are the party's share of `prior.text`, and the shares of all
    parties together are the whole text. A party that has neither has no text.
    """
    path = resolve_model(config.model.path)
    if config.own_text is not None:
        return open_own_text(config.own_text, model, path).stream(0)
    simulated = config.own_requests is None and config.party >= 0
    if not simulated or config.party >= config.parties.count:
        return ()
    shared = open_text(config.prior.text, model, path)
    return share_of(shared, config.party, config.parties.count)


def open_own_text(named: Path, model: EditableModel, model_path: str) -> TextSource:
    """Find a party's texts, one a line or in another form of `open_text`.

    Raises:
        TextError: If they are not on this node, and so not the party's own.
    """
    path, _, _ = split_name(str(named))
    if not Path(path).exists():
        raise TextError(
            f"`text-path` {str(named)!r}: wanted a file of this node's own with one "
            "text a line, a .jsonl or .parquet file, or a folder that `datasets` "
            "saved. Correct the path in the node config."
        )
    return open_text(str(named), model, model_path, setting="text-path")


def share_of(text: TextSource, party: int, parties: int) -> Iterable[Document]:
    """Cut a text into one piece a party, in order, as even in documents as can be."""
    count = sum(1 for _ in text.stream(0))
    start, end = (count * each // parties for each in (party, party + 1))
    return islice(text.stream(start), end - start)


def sum_moments(
    model: EditableModel, texts: Iterable[Document], layers: Sequence[int]
) -> dict[int, TextMoment]:
    """Sum ``k kᵀ`` over all tokens of some texts, by layer; of no token, nothing."""
    try:
        found = compute_covariance(model, texts, layers, dataset="text-path")
    except NoTokenError:
        return {}
    made = found.provenance
    return {
        layer: TextMoment(made.tokens * mean, made.tokens, made.products == SINGLE)
        for layer, mean in found.moments.items()
    }
