"""Which settings of a run its editor does not read, so that none is ignored in silence.

A setting counts as given if it differs from its default: Flower's flat form carries all
of them. Hyperparameter files and presets are made for a model and not for an editor, so
what they hold is never refused.
"""

from collections.abc import Iterator, Sequence

from editing.editors.choice import MEMIT, EditorChoice
from editing.hyperparameters.config import EditingConfig, Schedule
from strategies.scenario import PriorConfig

TARGETS = (
    "v_num_grad_steps",
    "v_lr",
    "v_loss_layer",
    "v_weight_decay",
    "clamp_norm_factor",
    "kl_factor",
    "target_of",
    "stop",
    "top_1_steps",
    "norm_anchor",
    "fact_token",
)
"""Keys of ``[editing]`` that say how targets are found, or where."""

ONE_EXCHANGE: tuple[Schedule, ...] = ("layerwise", "frozen-harmonic", "frozen-uniform")
"""Schedules under which an editor without targets reads all layers in one exchange."""

TEXT = ("covariance", "text", "tokens")
"""Keys of ``[prior]`` that come with a model. A scenario keeps them when another editor
is chosen, so they are named in the log and not refused."""

READ_BACK = "collabedit-deltas"
"""The merge that reads MEMIT's prior, whatever the editor."""


def find_unread(
    chosen: EditorChoice,
    editing: EditingConfig,
    prior: PriorConfig,
    merges: Sequence[str],
) -> Iterator[tuple[str, str]]:
    """Find settings that are given and that nothing reads: their keys, and why.

    The editor is loaded only if a setting is given that some editor does not read.

    Args:
        chosen: The table ``editor``, which is valid.
        editing: How a party edits.
        prior: What holds the rest in place.
        merges: All that the run merges by.
    """
    given = list(_given(editing, prior))
    if prior.memory_keys == "edited" and prior.memory_weight == 0:
        yield "prior.memory-keys", "with `prior.memory-weight` 0 no keys are remembered"
    if chosen.name == MEMIT or not (given or READ_BACK in merges):
        return
    editor = chosen.build()
    if editor.answers is None:
        read = prior.memory_weight == "lambda" or READ_BACK in merges
        if prior.weight is not None and not (read or editor.weighs_text):
            yield "prior.weight", f"the editor {editor.name!r} has weights of its own"
        return
    for key, reason in given:
        yield key, f"the editor {editor.name!r} {reason}"
    if READ_BACK in merges:
        reason = f"{READ_BACK!r} solves with the covariance of plain text, which the "
        yield "merge.name", f"{reason}editor {editor.name!r} does not have"


def _given(editing: EditingConfig, prior: PriorConfig) -> Iterator[tuple[str, str]]:
    """Give what editors at the answers' tokens do not read, where it is set."""
    for name in TARGETS:
        if getattr(editing, name) is not None:
            yield f"editing.{_kebab(name)}", "searches for no targets"
    if editing.schedule not in ONE_EXCHANGE:
        yield (
            "editing.schedule",
            "reads all layers in one exchange, with no target at any; "
            "`editing.layers` says which",
        )
    for key in _changed(prior):
        if key not in TEXT:
            reads = "earlier keys" if key.startswith("memory") else "plain text"
            yield f"prior.{_kebab(key)}", f"does not read {reads}"


def name_unread_text(prior: PriorConfig) -> list[str]:
    """Name the settings of a text that an editor without a covariance leaves unread."""
    return [f"prior.{_kebab(key)}" for key in _changed(prior) if key in TEXT]


def _changed(prior: PriorConfig) -> list[str]:
    plain = PriorConfig()
    names = PriorConfig.model_fields
    return [name for name in names if getattr(prior, name) != getattr(plain, name)]


def _kebab(name: str) -> str:
    return name.replace("_", "-")
