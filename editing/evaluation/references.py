"""References: what generated text is compared with, from ROME's published files.

The reference score (Meng et al., arXiv 2202.05262) is the cosine of the TF-IDF vectors
of all texts generated for a request and of all snippets about subjects that have the
new object in truth. Three files of ROME and MEMIT are read as they are, without
pickle: ``attribute_snippets.json``, and for the weights of words ``idf.npy`` and
``tfidf_vocab.json``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from editing.base.errors import InputError
from editing.base.validation import explain
from editing.files.npy import read_array
from editing.files.text import read_json
from editing.requests.forms.fields import spelled_number
from editing.requests.records import read_records

SNIPPETS = "attribute_snippets.json"
WEIGHTS = "idf.npy"
VOCABULARY = "tfidf_vocab.json"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text about a subject."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """One record of the published file; what else it has is not read."""

    relation_id: str
    target_id: str
    samples: tuple[Snippet, ...]


@dataclass(frozen=True)
class References:
    """Snippets by relation and object, and the weights of words.

    Attributes:
        snippets: Texts about subjects that have the object, by both numbers.
        vectorizer: Scikit-learn's, which turns texts into weights of words.
    """

    snippets: Mapping[tuple[str, str], Sequence[Snippet]]
    vectorizer: Any

    def score(self, texts: Sequence[str], relation: str, target: str) -> float | None:
        """Compare generated texts with the snippets; None if there are none.

        ``a·b / (‖a‖·‖b‖)`` of all texts together and all snippets together, and 0 if
        one of them holds no word of the vocabulary.
        """
        known = self.snippets.get((relation, target), ())
        if not known:
            return None
        both = [" ".join(texts), " ".join(each.text for each in known)]
        ours, theirs = np.asarray(self.vectorizer.transform(both).todense())
        norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
        return float(ours @ theirs) / norms if norms else 0.0

    def essence(self, relation: str, target: str, subject: str) -> list[str]:
        """The snippets about a subject itself: what else should stay true of it."""
        known = self.snippets.get((relation, target), ())
        return [each.text for each in known if each.name == subject]


def read_references(
    snippets: Path, weights: Path | None = None, vocabulary: Path | None = None
) -> References:
    """Read the published files; the weights are looked for next to the snippets.

    Without weights, they are counted on all snippets, as the published program does
    when it has none.

    Raises:
        InputError: If a file cannot be read or does not hold what it should, or one of
            the two files of weights is missing.
    """
    entries = _read_entries(snippets)
    found: dict[tuple[str, str], list[Snippet]] = {}
    for each in entries:
        key = (each.relation_id, each.target_id)
        found.setdefault(key, []).extend(each.samples)
    idf = weights or snippets.with_name(WEIGHTS)
    words = vocabulary or snippets.with_name(VOCABULARY)
    if weights or vocabulary or idf.exists() or words.exists():
        return References(found, restore_vectorizer(idf, words))
    from sklearn.feature_extraction.text import (  # type: ignore[import-untyped]
        TfidfVectorizer,
    )

    texts = [sample.text for each in entries for sample in each.samples]
    try:
        return References(found, TfidfVectorizer().fit(texts))
    except ValueError:
        raise InputError(f"{snippets}: no snippet holds a word") from None


def restore_vectorizer(weights: Path, vocabulary: Path) -> Any:  # noqa: ANN401 - untyped
    """Make scikit-learn's TF-IDF vectorizer of its weights and vocabulary.

    Raises:
        InputError: If a file cannot be read or they do not fit each other.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        idf = _read_weights(weights)
        words = TypeAdapter(dict[str, int]).validate_python(read_json(vocabulary))
        if len(idf) != len(words):
            raise ValueError(f"{len(idf)} weights are there for {len(words)} words")
        vectorizer = TfidfVectorizer(vocabulary=words)
        vectorizer.idf_ = idf
    except (OSError, ValueError) as error:
        raise InputError(
            f"{weights} and {vocabulary}: wanted the weights of words and their "
            f"places, as ROME publishes them ({str(error).splitlines()[0]})"
        ) from None
    return vectorizer


def _read_weights(path: Path) -> NDArray[np.float64]:
    """Read the weights of words; the header is checked before they are read.

    Raises:
        ValueError: If there are none, or some are no finite numbers.
    """
    with path.open("rb") as stream:
        found = read_array(stream, path.stat().st_size).astype(np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"{path.name} is no list of finite numbers")
    return found


def read_target_ids(source: Path | str) -> dict[int, str]:
    """By case, the number that CounterFact's records give the new object.

    Records without one are passed over; what cannot be read is a `RequestError`.
    """
    found = {}
    for index, (_, record) in enumerate(read_records(source)):
        fields = record if isinstance(record, Mapping) else {}
        rewrite = fields.get("requested_rewrite")
        target = rewrite.get("target_new") if isinstance(rewrite, Mapping) else None
        name = target.get("id") if isinstance(target, Mapping) else None
        if name is not None:
            number = spelled_number(fields.get("case_id"))
            found[index if number is None else number] = str(name)
    return found


def _read_entries(path: Path) -> list[_Entry]:
    try:
        return TypeAdapter(list[_Entry]).validate_python(read_json(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None
