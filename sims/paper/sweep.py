"""Settings that are swept: ``key=a,b,c``, several of them every way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from editing.base.errors import InputError
from server.tables import parse_override

NOT_SWEPT = {
    "run.seed": "--seeds",
    "requests.seed": "--seeds",
    "merge.name": "--merges",
    "run.merges": "--merges",
    "run.compare": "--merges",
}
"""Settings that have an option of their own."""

OPENING, CLOSING = "[{(", "]})"


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of all swept settings.

    Attributes:
        settings: Each ``table.key=value``.
        labels: Their values by key, numbers as numbers.
    """

    settings: tuple[str, ...] = ()
    labels: tuple[tuple[str, str | float], ...] = ()


def read_sweeps(texts: Sequence[str]) -> list[Point]:
    """Read the values of ``--sweep``, and combine them every way.

    Raises:
        InputError: If a key is given twice, or a text is no sweep.
    """
    keys = [text.partition("=")[0].strip().replace("_", "-") for text in texts]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise InputError(f"--sweep {key}: is given twice; list all values in one")
    axes = [list(read_sweep(text)) for text in texts]
    return [
        Point(
            tuple(setting for setting, _ in chosen), tuple(label for _, label in chosen)
        )
        for chosen in product(*axes)
    ]


def read_sweep(text: str) -> Iterator[tuple[str, tuple[str, str | float]]]:
    """Yield each setting of ``key=a,b,c``, with its key and value as labels.

    Commas within brackets and quotation marks belong to a value.

    Raises:
        InputError: If there is no key, or nothing between two commas.
    """
    key, equals, listed = text.partition("=")
    key = key.strip().replace("_", "-")
    values = list(split_values(listed))
    if not equals or key.count(".") < 1 or not all(key.split(".")) or not all(values):
        raise InputError(
            f"--sweep {text}: wanted `table.key=value,value,…`, such as "
            "`--sweep prior.weight=100,300`"
        )
    if key in NOT_SWEPT:
        raise InputError(f"--sweep {text}: `{key}` is what {NOT_SWEPT[key]} is for")
    parsed_values = [parse_override(f"{key}={value}")[1] for value in values]
    if any(value in parsed_values[:place] for place, value in enumerate(parsed_values)):
        raise InputError(f"--sweep {text}: names a value twice; each is run once")
    for value, parsed in zip(values, parsed_values, strict=True):
        number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
        yield f"{key}={value}", (key, float(value) if number else value.strip('"'))


def split_values(text: str) -> Iterator[str]:
    """Split at the commas outside of brackets and quotation marks."""
    depth, quote, value = 0, "", ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == "," and depth == 0:
            yield value.strip()
            value = ""
            continue
        depth += 0 if quote else (sign in OPENING) - (sign in CLOSING)
        value += sign
    yield value.strip()
