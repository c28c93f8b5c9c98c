"""MEMIT on one machine, the reference for an edit by several parties."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from editing.algebra.deltas import add_deltas, applied
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import Solver, System
from editing.hyperparameters.config import Plan
from editing.memit.keys import extract_keys
from editing.memit.residuals import compute_residuals, read_states
from editing.memit.targets import Targets, compute_targets
from editing.models.activations import BlockInputs, Relay
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest


@dataclass(frozen=True, slots=True)
class LayerPairs:
    """Keys and residuals of one layer; rows are edits."""

    keys: Float[Tensor, "n d_in"]
    residuals: Float[Tensor, "n d_out"]

    @property
    def statistics(self) -> LayerStatistics:
        """Return the statistics of these pairs, which the solve needs."""
        return LayerStatistics.of_pairs(self.keys, self.residuals)


@dataclass(frozen=True, slots=True)
class Step:
    """The layers solved on one state of the model.

    Attributes:
        pairs: By layer, keys and residuals of the solve.
        delta: Updates by parameter name, those of earlier steps included.
    """

    pairs: Mapping[int, LayerPairs]
    delta: Mapping[str, Float[Tensor, "d_out d_in"]]


def read_pairs(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    plan: Plan,
    layers: Sequence[int],
    hidden: Float[Tensor, "n d_out"] | None = None,
    relay: Relay | None = None,
) -> dict[int, LayerPairs]:
    """Read keys and residuals of some layers on the model as it is.

    Args:
        model: The model, with the updates of earlier layers.
        requests: One row of keys and residuals each.
        targets: Theirs, in the same order.
        plan: Hyperparameters, schedule and context templates.
        layers: Blocks whose keys are read.
        hidden: What targets are compared with on this model; read if None. On the
            model that the targets were computed on it is `Targets.hidden`.
        relay: As in `editing.models.activations.read_activations`.
    """
    plan = plan.at(layers)
    edited = plan.parameters.layers
    keys = extract_keys(model, requests, plan.templates, layers, relay)
    if hidden is None:
        hidden = read_states(model, requests, plan.parameters, relay)
    device = keys[layers[0]].device
    states, hidden = targets.states.to(device), hidden.to(device)
    shares = {
        layer: plan.parameters.share(edited.index(layer), plan.schedule)
        for layer in layers
    }
    return {
        layer: LayerPairs(keys[layer], compute_residuals(states, hidden, share))
        for layer, share in shares.items()
    }


def walk_layers(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    plan: Plan,
    priors: Mapping[int, Float[Tensor, "d_in d_in"] | Solver],
) -> Iterator[Step]:
    """Edit step by step, each on the model with the updates of earlier steps.

    The model is the one that the targets were computed on, and so it is between steps.
    See `edit_alone` for arguments. Under `boundary` `targets` are those of the first
    step; later ones are computed.
    """
    delta: dict[str, Tensor] = {}
    kept: BlockInputs | None = None
    for number, layers in enumerate(plan.steps):
        with applied(delta, model.model):
            own = plan.schedule == "boundary"
            if own and number > 0:
                targets = find_own_targets(model, requests, plan, layers)
            edited = any(bool(each.any()) for each in delta.values())
            hidden = None if edited and not own else targets.hidden
            relay = Relay(start=kept, kept=inputs_to_keep(plan, layers))
            pairs = read_pairs(model, requests, targets, plan, layers, hidden, relay)
        kept = relay.kept
        solved = {
            model.weight_name(layer): as_solver(priors[layer]).solve(
                pairs[layer].statistics
            )
            for layer in layers
        }
        delta = add_deltas(delta, solved)
        yield Step(pairs, delta)


def as_solver(prior: Float[Tensor, "d_in d_in"] | Solver) -> Solver:
    """Return what is solved against a prior, which is MEMIT's as a rule."""
    return System(Prior(prior)) if isinstance(prior, Tensor) else prior


def find_own_targets(
    model: EditableModel,
    requests: Sequence[EditRequest],
    plan: Plan,
    layers: Sequence[int],
) -> Targets:
    """Compute the targets that the residuals of some layers are read from."""
    own = plan.at(layers).parameters
    return compute_targets(model, requests, plan.templates, own)


def inputs_to_keep(plan: Plan, layers: Sequence[int]) -> BlockInputs | None:
    """Return what a step's passes are to keep for the next step, still empty.

    The next step is on a model in which these layers and none before are edited, so its
    passes may begin at the first of these. It is None if no blocks are before that, or
    no step is after this one.
    """
    last = layers[-1] == plan.parameters.layers[-1]
    return None if last or layers[0] == 0 else BlockInputs(layers[0])


def edit_alone(
    model: EditableModel,
    requests: Sequence[EditRequest],
    plan: Plan,
    priors: Mapping[int, Float[Tensor, "d_in d_in"] | Solver],
    targets: Targets | None = None,
) -> dict[str, Float[Tensor, "d_out d_in"]]:
    """Edit with all requests on one machine (arXiv 2210.07229, algorithm 1).

    The model is unchanged afterwards; use `editing.algebra.deltas.applied` to edit it.
    Layers outside the model and prompts longer than its context are an `InputError`, a
    prior that does not carry the solve is an `IllConditionedError`.

    Args:
        model: The model to edit.
        requests: The edits.
        plan: Hyperparameters, schedule and context templates.
        priors: By layer, ``λ·C₀`` plus the memory of earlier rounds, or the system of
            another editor (`editing.editors`).
        targets: Computed here if None.

    Returns:
        Updates by parameter name, in float64.
    """
    model.check_layers(plan.parameters.layers)
    if targets is None:
        targets = find_own_targets(model, requests, plan, plan.steps[0])
    *_, last = walk_layers(model, requests, targets, plan, priors)
    return dict(last.delta)
