"""What is summed, as vectors: statistics of layers, summaries, metrics, text moments.

A party without a request sends zeros, so that a sum does not tell who had one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.encodings import Encoding
from editing.algebra.second_moments import (
    TextMoment,
    read_triangle,
    write_triangle,
)
from editing.algebra.statistics import LayerStatistics, NormBounds, StatisticsError
from editing.base.errors import InputError
from editing.evaluation.metrics import DIAGNOSIS, RANGES, MetricSums
from strategies.secure.fixed_point import Reals, choose_bits, count_words
from strategies.secure.records import Form, MaskedRequest
from strategies.secure.rotation import derive_rotation, rotation_columns
from strategies.wire.messages import TargetsReply
from strategies.wire.metrics import EvaluationSums

SUMMARY, COUNT, METRICS, TOKENS = "summary", "count", "metrics", "tokens"
MEASURED = (*sorted(RANGES), *sorted(DIAGNOSIS))
"""The metrics that are summed, in the order of the vector."""

WHOLE = 1e-6
"""How far a sum of whole numbers may be from one."""

Vectors = Mapping[str, Reals]
Pairs = tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The widths of a layer.

    Attributes:
        layer: Its number.
        d_in: Width of the keys.
        d_out: Width of the residuals.
    """

    layer: int
    d_in: int
    d_out: int

    def choose_form(self, rows: float, encoding: Encoding, bounds: NormBounds) -> Form:
        """Return the smaller form, unless triangles are asked for.

        Args:
            rows: Of all parties, infinite if that is not known.
            encoding: What the run is set to.
            bounds: Decide which numbers take two places.
        """
        if encoding == "dense" or not math.isfinite(rows):
            return "dense"
        fewer = self._words("rows", rows, bounds) < self._words("dense", rows, bounds)
        return "rows" if fewer else "dense"

    def _words(self, form: Form, rows: float, bounds: NormBounds) -> int:
        bits, lengths = self.bits(form, rows, bounds), self.lengths(form, int(rows))
        return sum(count_words(size, bits.get(name)) for name, size in lengths.items())

    def lengths(self, form: Form, rows: int) -> dict[str, int]:
        """Return the length of each vector of the layer."""
        if form == "rows":
            sizes = {"keys": rows * self.d_in, "residuals": rows * self.d_out}
        else:
            half = self.d_in * (self.d_in + 1) // 2
            sizes = {"gram": half, "cross": self.d_out * self.d_in}
        return {f"{self.layer}.{name}": size for name, size in sizes.items()}

    def bits(self, form: Form, edits: float, bounds: NormBounds) -> dict[str, int]:
        """Return the fraction bits of each vector that takes one place a number.

        Args:
            form: How the layer travels.
            edits: The most edits of all parties together.
            bounds: Largest norms of keys and residuals, in the root mean square.
        """
        key, residual = bounds.key, bounds.residual
        if form == "rows":
            norms = {"keys": edits**0.5 * key, "residuals": edits**0.5 * residual}
        else:
            norms = {"gram": edits * key * key, "cross": edits * key * residual}
        chosen = {f"{self.layer}.{k}": choose_bits(norm) for k, norm in norms.items()}
        return {name: bits for name, bits in chosen.items() if bits is not None}


def pack_layer(
    pairs: Pairs | None,
    shape: LayerShape,
    request: MaskedRequest,
    party: int,
    secret: bytes,
) -> dict[str, Reals]:
    """Write a party's pairs of one layer as it is asked for.

    Args:
        pairs: Keys and residuals; None without an edit.
        shape: The layer.
        request: The form, and the members with their most edits.
        party: The party's number.
        secret: Of the session; the rotation is derived from it. The server lacks it.

    Raises:
        InputError: If the party has more edits than the server's bound.
    """
    form = request.forms[shape.layer]
    sizes = shape.lengths(form, request.rows)
    if pairs is None:
        return {name: np.zeros(size) for name, size in sizes.items()}
    keys, residuals = (each.detach().cpu().double() for each in pairs)
    if form == "dense":
        statistics = LayerStatistics.of_pairs(keys, residuals)
        parts = (write_triangle(statistics.gram), statistics.cross)
    else:
        place = request.place_of(party)
        own = slice(place.start, place.start + len(keys))
        if own.stop > place.stop:
            raise InputError(
                f"This party has {len(keys)} edits in the round, and "
                f"{place.stop - place.start} are the most that the settings allow "
                "(`parties.requests-per-round`, `requests.phrasings`)."
            )
        named = (request.session.label, request.session.round, shape.layer)
        key = derive_rotation(secret, *named)
        columns = rotation_columns(key, request.rows, own)
        parts = (columns @ keys, columns @ residuals)
    return {
        name: each.reshape(-1).numpy() for name, each in zip(sizes, parts, strict=True)
    }


def unpack_layer(
    vectors: Vectors, shape: LayerShape, form: Form, rows: int, count: int
) -> LayerStatistics:
    """Read the pooled statistics of a layer from the sums of `pack_layer`.

    Args:
        vectors: The sums.
        shape: The layer.
        form: How it travelled.
        rows: Rows of all members together.
        count: Number of edits.
    """
    first, second = (
        torch.from_numpy(vectors[name]) for name in shape.lengths(form, rows)
    )
    if form == "rows":
        keys = first.reshape(rows, shape.d_in)
        return LayerStatistics.of_pairs(keys, second.reshape(rows, shape.d_out), count)
    cross = second.reshape(shape.d_out, shape.d_in)
    return LayerStatistics.of_sums(read_triangle(first, shape.d_in), cross, count)


def pack_summary(reply: TargetsReply, edits: int) -> dict[str, Reals]:
    """Write a party's summary of its targets, and its number of edits."""
    numbers = (reply.requests, reply.known, reply.left_out)
    norms = (reply.residual_norm, reply.residual_ratio)
    return {SUMMARY: np.array([*numbers, *norms], np.float64), **pack_count(edits)}


def unpack_summary(vectors: Vectors) -> TargetsReply:
    """Read the sum of the parties' summaries; an impossible one is refused."""
    numbers, norms = vectors[SUMMARY][:3], vectors[SUMMARY][3:]
    requests, known, left_out = (to_count(each) for each in numbers)
    norm, ratio = (max(float(each), 0.0) for each in norms)
    return TargetsReply(
        requests=requests,
        known=known,
        left_out=left_out,
        residual_norm=norm,
        residual_ratio=ratio,
    )


def pack_count(edits: int) -> dict[str, Reals]:
    """Write the number of a party's edits."""
    return {COUNT: np.array([edits], np.float64)}


def pack_metrics(evaluation: EvaluationSums, number: int) -> dict[str, Reals]:
    """Write a party's metrics of all rounds so far; of round 0, those of the first."""
    values = []
    for asked in range(1, max(number, 1) + 1):
        own = evaluation.of_round(asked)
        for name in MEASURED:
            values += [own.sums.get(name, 0.0), float(own.counts.get(name, 0))]
    return {METRICS: np.array(values)}


def unpack_metrics(vectors: Vectors) -> EvaluationSums:
    """Read the sums of the parties' metrics."""
    by_round = vectors[METRICS].reshape(-1, len(MEASURED), 2)
    found = {}
    for asked, pairs in enumerate(by_round, start=1):
        known = [
            (name, float(total), to_count(count))
            for name, (total, count) in zip(MEASURED, pairs, strict=True)
            if to_count(count) > 0
        ]
        if known:
            sums = {name: total for name, total, _ in known}
            found[asked] = MetricSums(sums, {name: n for name, _, n in known})
    return EvaluationSums(found)


def pack_moments(
    moments: Mapping[int, TextMoment], shapes: Mapping[int, int]
) -> dict[str, Reals]:
    """Write a party's text moments by layer; of no text, zeros.

    Args:
        moments: By layer.
        shapes: Width of the keys of each layer.
    """
    tokens = max((each.tokens for each in moments.values()), default=0)
    single = any(each.single for each in moments.values())
    vectors: dict[str, Reals] = {TOKENS: np.array([tokens, single], np.float64)}
    for layer, width in shapes.items():
        half = np.zeros(width * (width + 1) // 2)
        if layer in moments:
            half = write_triangle(moments[layer].total.double()).numpy()
        vectors[f"{layer}.moment"] = half
    return vectors


def unpack_moments(
    vectors: Vectors, shapes: Mapping[int, int]
) -> dict[int, TextMoment]:
    """Read the sums of the parties' text moments; none if there was no text."""
    tokens, single = (to_count(each) for each in vectors[TOKENS])
    if tokens == 0:
        return {}
    return {
        layer: TextMoment(
            read_triangle(torch.from_numpy(vectors[f"{layer}.moment"]), width),
            tokens,
            single > 0,
        )
        for layer, width in shapes.items()
    }


def to_count(value: float) -> int:
    """Read a sum of whole numbers.

    Raises:
        StatisticsError: If it is not whole, or negative.
    """
    near = round(value) if math.isfinite(value) else -1
    if not (near >= 0 and abs(value - near) <= WHOLE):
        raise StatisticsError(f"A sum of counts is {value:.6g}, which none can be.")
    return near
