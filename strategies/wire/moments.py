"""Second moments on the wire: what a party sends for a federated covariance."""

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from editing.algebra.second_moments import (
    MomentBounds,
    TextMoment,
    read_moment,
    write_moment,
)
from editing.algebra.statistics import StatisticsError
from strategies.wire.arrays import to_tensors


def write_moments(moments: Mapping[int, TextMoment]) -> RecordDict:
    """Pack a party's moments of the layers asked for; of no text, nothing but a 0."""
    arrays = {
        f"{layer}.{name}": Array(tensor.numpy())
        for layer, moment in moments.items()
        for name, tensor in write_moment(moment).items()
    }
    tokens = max((moment.tokens for moment in moments.values()), default=0)
    single = any(moment.single for moment in moments.values())
    facts = ConfigRecord({"tokens": tokens, "single": single})
    return RecordDict({"moments": ArrayRecord(arrays), "facts": facts})


def read_moments(
    content: RecordDict,
    widths: Mapping[int, int],
    bounds: Mapping[int, MomentBounds] | None = None,
) -> dict[int, TextMoment]:
    """Unpack a party's moments; `write_moments` packs them. Of no text there are none.

    Args:
        content: What the party sent.
        widths: ``d_in`` of each layer that it was asked for.
        bounds: What their means may be, by layer; anything if None.

    Raises:
        StatisticsError: If they are not of this protocol, of other layers, or such that
            no text can have them.
    """
    try:
        tensors = to_tensors(content.array_records["moments"])
        facts = content.config_records["facts"]
        tokens, single = facts["tokens"], facts["single"] is True
    except Exception as error:  # whatever a party's bytes make numpy raise
        raise StatisticsError(
            "Second moments were asked for, and the reply does not hold them "
            f"({type(error).__name__})."
        ) from None
    if not isinstance(tokens, int) or isinstance(tokens, bool):
        raise StatisticsError("The number of tokens is no whole number.")
    if tokens == 0 and not tensors:
        return {}
    _check_names(tensors, widths)
    return {
        layer: read_moment(
            _of_layer(tensors, layer),
            tokens,
            width,
            single=single,
            bounds=(bounds or {}).get(layer),
        )
        for layer, width in widths.items()
    }


def _check_names(tensors: Mapping[str, Tensor], widths: Mapping[int, int]) -> None:
    """Refuse what is not real numbers of the layers asked for.

    Raises:
        StatisticsError: Naming the layers.
    """
    layers = {name.split(".", 1)[0] for name in tensors}
    wanted = {str(layer) for layer in widths}
    if layers != wanted:
        raise StatisticsError(
            f"Second moments of layers {sorted(wanted)} were asked for, and the reply "
            f"holds others or not all."
        )
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise StatisticsError("Second moments are no real numbers.")


def _of_layer(tensors: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    prefix = f"{layer}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
