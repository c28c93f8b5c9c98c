"""Looking for what is private in the bytes that leave a party."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from flwr.app import Message, RecordDict
from flwr.common.serde import message_to_proto

from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from editing.requests.normalise import normalise

SHORTEST = 5
"""Characters of the shortest text that is looked for; chance finds none as long."""

RUN = 3
"""As many tokens in a row tell what a text is about."""

NUMBERS = ("<i2", "<i4", "<i8", "<f2", "<f4", "<f8")
"""How a token's number may be written in an array, among every other precision."""

SEPARATORS = (", ", ",", " ", "\n")


@dataclass(frozen=True)
class Secrets:
    """What no byte that leaves a party may tell.

    Attributes:
        texts: In any case, as UTF-8 or 16, escaped, in hexadecimal, or digested.
        tokens: Numbers of the tokens of private texts; runs of them are looked for.
        keys: Bytes, as they are or in hexadecimal.
    """

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()
    keys: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a search that finds what is not there."""
        short = [text for text in self.texts if len(text) < SHORTEST]
        assert short == [], short

    def __add__(self, other: "Secrets") -> "Secrets":
        """Look for both."""
        return Secrets(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.keys + other.keys,
        )

    def found_in(self, data: bytes) -> list[str]:
        """Name what of all this stands in some bytes."""
        lowered = data.lower()
        texts = [name for name, form in self._readable if form in lowered]
        return texts + [name for name, form in self._exact if form in data]

    def runs(self) -> set[tuple[int, ...]]:
        """All runs of tokens; one token again and again is no text."""
        windows = {
            sequence[start : start + RUN]
            for sequence in self.tokens
            for start in range(len(sequence) - RUN + 1)
        }
        return {window for window in windows if len(set(window)) > 1}

    @cached_property
    def _readable(self) -> list[tuple[str, bytes]]:
        """What is looked for in lower case, with its name."""
        found = [(text, form) for text in self.texts for form in forms_of(text)]
        blind = [*map(digest, self.texts), *self.keys]
        return found + [
            (f"hexadecimal {key.hex()}", key.hex().encode()) for key in blind
        ]

    @cached_property
    def _exact(self) -> list[tuple[str, bytes]]:
        """What is looked for as it is, with its name."""
        found = [
            (f"tokens {run}", form) for run in self.runs() for form in written(run)
        ]
        found += [(f"SHA-256 of {text}", digest(text)) for text in self.texts]
        return found + [(f"bytes {key.hex()}", key) for key in self.keys]


def secrets_of(
    requests: Iterable[EditRequest], model: EditableModel, *others: str
) -> Secrets:
    """All that a party's requests say, and other texts that are its own.

    Args:
        requests: All texts of them, long words of subjects and objects by themselves,
            and the tokens of their prompts with subject and object.
        model: Whose tokens they are.
        others: Paths, names and whatever else is private.
    """
    texts, sequences = set(others), set()
    for request in requests:
        own = set(_texts_of(request))
        texts |= own
        own |= {f"{request.rewrite_prompt} {request.target_new}", f" {request.subject}"}
        for text in own:
            sequences.add(tuple(model.tokenizer(text)["input_ids"]))
    return Secrets(
        tuple(sorted(text for text in texts if len(text) >= SHORTEST)),
        tuple(sorted(sequences)),
    )


def leaving(message: Message) -> bytes:
    """All that goes over the wire, and its numbers in one precision and two orders."""
    whole: bytes = message_to_proto(message).SerializeToString()
    numbers = _numbers_in(message.content) if message.has_content() else ()
    return whole + b"".join(
        np.asarray(each, dtype=np.float64).tobytes(order)
        for each in numbers
        for order in ("C", "F")
    )


def forms_of(text: str) -> set[bytes]:
    """How a text may be written, in lower case."""
    lowered = {text.lower(), normalise(text), json.dumps(text)[1:-1].lower()}
    forms = {each.encode(form) for each in lowered for form in ("utf-8", "utf-16-le")}
    return forms | {text.encode().hex().encode()}


def digest(text: str) -> bytes:
    """What anybody can compute of a guess."""
    return hashlib.sha256(text.encode()).digest()


def written(run: Sequence[int]) -> Iterator[bytes]:
    """How tokens may be written."""
    for kind in NUMBERS:
        yield np.asarray(run).astype(kind).tobytes()
    for separator in SEPARATORS:
        yield separator.join(map(str, run)).encode()


def _texts_of(request: EditRequest) -> Iterator[str]:
    """All texts of a request, whole and in parts that tell of it."""
    lists = (
        request.paraphrase_prompts,
        request.neighborhood_prompts,
        request.attribute_prompts,
        request.generation_prompts,
    )
    objects = [each for each in (request.target_new, request.target_true) if each]
    yield from (text for texts in lists for text in texts)
    yield from (request.rewrite_prompt, request.subject, request.relation_id or "")
    yield from (part.strip() for part in request.prompt.split("{}"))
    for text in (request.subject, *objects):
        yield from (text, *text.split())


def _numbers_in(content: RecordDict) -> Iterator[np.ndarray]:
    """The numbers of every record: of each array, each list, and all that is single."""
    for arrays in content.array_records.values():
        for array in arrays.values():
            yield np.nan_to_num(array.numpy().astype(np.float64))
    for records in (content.config_records, content.metric_records):
        for record in records.values():
            values = list(record.values())
            single = [each for each in values if isinstance(each, int | float)]
            lists = [each for each in values if isinstance(each, list)]
            yield np.asarray(single, dtype=np.float64)
            for each in lists:
                if all(isinstance(one, int | float) for one in each):
                    yield np.asarray(each, dtype=np.float64)
