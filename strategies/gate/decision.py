"""When a merged update is not accepted; pure, on numbers that others measure."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from editing.base.settings import Settings

MENDS = 0.5
"""Without the party at fault, at most this share is left: of what was left of another's
residuals, or of how far an update moves plain text."""

NOTHING = 1e-6
"""An evil up to this is rounding, and has no cause."""


class GateConfig(Settings):
    """The release gate: what a round may cost before its update is accepted.

    Attributes:
        requests: How many held-out facts, of those next to the model, each merged
            update is evaluated on before it is accepted; 0 measures nothing. The server
            then holds each party's statistics of a round, and parties evaluate their
            requests after every round.
        max_drop: How many per cent points of the held-out facts a round may cost.
        text: A text, as in `prior.text`, on as many documents of which the perplexity
            is measured; unset, on none.
        max_perplexity_ratio: How many times as large a round may make it.
        max_update_ratio: The largest ``‖Δ‖/‖W‖`` of all updates so far.
        min_success: The least per cent of a party's own requests that must have taken
            effect, where its statistics confirm what it says.
    """

    requests: NonNegativeInt = 0
    max_drop: NonNegativeFloat = 10.0
    text: str | None = None
    max_perplexity_ratio: float = Field(1.5, ge=1, allow_inf_nan=False)
    max_update_ratio: float = Field(100.0, gt=0, allow_inf_nan=False)
    min_success: float = Field(50.0, ge=0, le=100)

    @model_validator(mode="after")
    def check_closed(self) -> "GateConfig":
        """Refuse limits of an open gate, which nobody would ask about.

        Raises:
            ValueError: Naming the first that is set.
        """
        for name, field in type(self).model_fields.items():
            if self.requests == 0 and getattr(self, name) != field.default:
                key = f"gate.{name.replace('_', '-')}"
                raise ValueError(
                    f"`{key}` needs `gate.requests`, the number of held-out facts that "
                    "each update is measured on; set that to 1 or more, or leave "
                    f"`{key}` out"
                )
        return self


@dataclass(frozen=True, slots=True)
class Measures:
    """What the server measures of an update.

    Attributes:
        held_out: Per cent of held-out facts that are answered.
        perplexity: On a text; None if there is none.
        update_ratio: The largest ``‖Δ‖/‖W‖`` over edited weights.
    """

    held_out: float
    perplexity: float | None
    update_ratio: float


def find_faults(before: Measures, after: Measures, config: GateConfig) -> list[str]:
    """Return what of an update is beyond a limit; nothing if it may be accepted.

    Args:
        before: Of the updates before the round.
        after: Of those with the round's.
        config: The limits.
    """
    faults = []
    if not after.held_out >= before.held_out - config.max_drop:
        faults.append(
            f"held-out facts fall from {before.held_out:.1f} to {after.held_out:.1f} "
            f"per cent, and {config.max_drop:g} points are allowed (`gate.max-drop`)"
        )
    if before.perplexity is not None and after.perplexity is not None:
        most = config.max_perplexity_ratio * before.perplexity
        if not after.perplexity <= most:
            faults.append(
                f"the perplexity rises from {before.perplexity:.4g} to "
                f"{after.perplexity:.4g}, and {most:.4g} is allowed "
                "(`gate.max-perplexity-ratio`)"
            )
    if not after.update_ratio <= config.max_update_ratio:
        faults.append(
            f"‖Δ‖/‖W‖ is {after.update_ratio:.3g}, and {config.max_update_ratio:g} is "
            "allowed (`gate.max-update-ratio`)"
        )
    return faults


def describe_measures(before: Measures, after: Measures, facts: int) -> str:
    """Say what an accepted round cost.

    Args:
        before: Of the updates before the round.
        after: Of those with the round's.
        facts: How many are held out.
    """
    words = [
        f"held-out facts {before.held_out:.1f} -> {after.held_out:.1f} per cent of "
        f"{facts}"
    ]
    if before.perplexity is not None and after.perplexity is not None:
        words.append(f"perplexity {before.perplexity:.4g} -> {after.perplexity:.4g}")
    words.append(f"‖Δ‖/‖W‖ {before.update_ratio:.3g} -> {after.update_ratio:.3g}")
    return ", ".join(words)


def find_culprit(
    before: Measures, without: Mapping[int, Measures], config: GateConfig
) -> int | None:
    """Return the party without which an update is best; None if it is not mended.

    Args:
        before: Of the updates before the round.
        without: By party, of the updates without it.
        config: The limits.
    """
    mended = {
        party: found
        for party, found in without.items()
        if not find_faults(before, found, config)
    }
    return max(mended, key=lambda party: _goodness(mended[party]), default=None)


def _goodness(found: Measures) -> tuple[float, float, float]:
    return found.held_out, -(found.perplexity or 0.0), -found.update_ratio


def find_cause(left: float, without: Mapping[int, float]) -> int | None:
    """Return the party whose absence leaves least of an evil; None if it leaves much.

    Where there is nothing to mend, nobody is the cause.

    Args:
        left: The evil: the share of another party's residuals that is left after the
            update, or how far the update moves plain text.
        without: The same by party, after the update without that one.
    """
    party = min(without, key=lambda each: without[each], default=None)
    if party is None or not left > NOTHING or not without[party] <= MENDS * left:
        return None
    return party
