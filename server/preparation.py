"""What a run needs before its first round: model, plan, prior, held-out facts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.common.logger import log
from torch import Tensor

from editing.algebra.statistics import NormBounds
from editing.algebra.threads import threads_for
from editing.base.errors import InputError
from editing.covariance.cache import digest_covariance, find_covariance
from editing.covariance.covariance import Covariance, Provenance
from editing.editors.base import Editor
from editing.editors.memit import MemitEditor
from editing.editors.system import LayerState
from editing.evaluation.capability.measure import CapabilityMeasure, open_capability
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import Plan
from editing.malmen.rule import AnyRule, complete
from editing.memit.context_templates import choose_templates
from editing.memit.typical_norms import TypicalNorms, measure_norms
from editing.models.loading import EditableModel
from editing.sources.embedded import file_in_model, resolve_model
from server.config import RunConfig, ScheduleConfig
from server.evaluation import HeldOutFact, read_held_out
from server.federated_covariance import TextPool, TextShares, pool_texts
from server.inputs import digest_capability, digest_inputs
from strategies.merges.base import MergeContext
from strategies.rounds.limits import Limits
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer
from strategies.scenario import COMPUTE, FEDERATED, PriorConfig
from strategies.unread_settings import name_unread_text
from strategies.wire.messages import Job, ModelIdentity, OwnPrior

FACTOR_BYTES = 4_000_000_000
"""Bytes that kept factors may take: those of GPT2-XL, not of models with wider keys."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What all merges of a run share.

    Attributes:
        model: The server's copy of the model.
        plan: Hyperparameters, schedule and context templates.
        covariance: ``C₀`` of the edited layers.
        prior_weight: ``λ``.
        held_out: Facts that no party edits; empty if the model has none.
        inputs: Digests of the files read, by which a resumed run recognises its own.
        shares: What each party's text added to ``C₀``, if they counted it together.
        hyperparameters_from: The file or preset, and its other fields.
        norms: How long the model's own keys and hidden states are.
        answers: How values are made, for editors that read at the answers' tokens.
        capability: Measures the whole model after rounds.
    """

    model: EditableModel
    plan: Plan
    covariance: Covariance
    prior_weight: float
    held_out: tuple[HeldOutFact, ...]
    inputs: Mapping[str, str]
    shares: TextShares | None = None
    hyperparameters_from: Mapping[str, object] = field(default_factory=dict)
    norms: TypicalNorms = field(kw_only=True)
    answers: AnyRule | None = field(default=None, kw_only=True)
    capability: CapabilityMeasure = field(
        default_factory=CapabilityMeasure, kw_only=True
    )
    _begun: dict[tuple[int, str], dict[str, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _memories: dict[tuple[int, float, bool], Memory] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def memory_weight(self, prior: PriorConfig) -> float:
        """``γ`` as a number."""
        chosen = prior.memory_weight
        return self.prior_weight if chosen == "lambda" else chosen

    @property
    def reach(self) -> float:
        """How far a target may be from any hidden state: ``(1 + clamp) · ‖h‖ + c``.

        It is within ``clamp_norm_factor · ‖h‖`` of the state that it began at. What
        earlier layers and rounds have made of that state is no longer than the target,
        once they have done what they were asked for. ``c`` is the norm anchor, if any.
        """
        parameters = self.plan.parameters
        clamp, anchor = parameters.clamp_norm_factor, parameters.norm_anchor or 0.0
        return (1 + clamp) * self.norms.hidden + anchor

    def limits(self, config: RunConfig, *, pooled: bool, sums: bool = True) -> Limits:
        """Return upper bounds on what an honest party sends.

        Args:
            config: Gives the number of requests of each party.
            pooled: Whether one party represents all.
            sums: Whether the merge needs the parties' sum alone.
        """
        run, parameters = config.run, self.plan.parameters
        answers = self.answers is not None
        ratio = run.residual_ratio(sums=sums)
        longest = max(ratio * self.reach, run.max_residual_norm or 0.0)
        return Limits(
            config.parties,
            config.requests.phrasings,
            pooled,
            len(parameters.layers) * longest,
            ratio * (1 + parameters.clamp_norm_factor),
            {layer: self.model.widths(layer) for layer in parameters.layers},
            self.model.longest_input if answers else 1,
        )

    def layers(
        self,
        memory_weight: float,
        run: ScheduleConfig | None = None,
        *,
        sums: bool = True,
        editor: Editor | None = None,
    ) -> dict[int, EditedLayer]:
        """The edited layers, with nothing remembered.

        Args:
            memory_weight: ``γ``.
            run: Bounds what a party may send.
            sums: Whether the merge needs the parties' sum alone.
            editor: What is solved; MEMIT's system if None.
        """
        run, editor = run or ScheduleConfig(), editor or MemitEditor()
        longest = run.residual_ratio(sums=sums) * self.reach
        residual = run.max_residual_norm or longest
        # Editors that read at the answers remember moments instead of grams.
        memory_weight = memory_weight if editor.answers is None else 0.0
        found = {}
        for layer in self.plan.parameters.layers:
            d_out, d_in = self.model.widths(layer)
            memory = self._memory(layer, memory_weight, run)
            name = self.model.weight_name(layer)
            typical = self._typical_key(layer, editor)
            bounds = NormBounds(run.key_ratio * typical, residual)
            found[layer] = EditedLayer(
                name,
                d_out,
                d_in,
                memory,
                bounds,
                editor,
                self._begin(layer, editor, memory),
                MergeContext(layer, seed=run.seed),
                original=self.model.weight(layer),
            )
        return found

    def _typical_key(self, layer: int, editor: Editor) -> float:
        """Return the root mean square of ``‖k‖`` over plain text.

        An editor that needs no covariance has none: then it is over the templates.
        """
        if editor.answers is not None:
            square = self.norms.keys[layer].mean
        else:
            moment, scale = self.covariance.scaled(layer)
            square = scale * float(moment.diagonal().double().sum())
        typical: float = square**0.5
        return typical

    def _begin(
        self, layer: int, editor: Editor, memory: Memory
    ) -> Mapping[str, Tensor]:
        """Return what an editor keeps before the first round, whatever the merge."""
        place = layer, editor.model_dump_json()
        if place not in self._begun:
            with threads_for(len(memory.covariance)):
                self._begun[place] = editor.begin(LayerState(memory.prior()))
        return self._begun[place]

    def _memory(self, layer: int, memory_weight: float, run: ScheduleConfig) -> Memory:
        """Return a layer's memory with nothing remembered, the same for all merges.

        Its prior is kept, with its factor, if the run solves with it again, and if the
        factors of all layers take no more than `FACTOR_BYTES`.
        """
        moment, scale = self.covariance.scaled(layer)
        factors = 8 * moment.numel() * len(self.plan.parameters.layers)
        again = run.compare or (run.rounds > 1 and memory_weight == 0)
        keeps = again and factors <= FACTOR_BYTES
        own = self.answers
        weight = self.prior_weight if own is None else own.weight(layer)
        made = Memory(moment, weight, memory_weight, scale, keeps=keeps)
        return self._memories.setdefault((layer, memory_weight, keeps), made)

    def job(self, config: RunConfig, label: str, *, pooled: bool) -> Job:
        """Return what every message to a client carries."""
        identity = ModelIdentity(
            weights=self.model.fingerprint,
            tokenizer=self.model.tokenizer_fingerprint,
            configuration=self.model.configuration_fingerprint,
        )
        return Job(
            identity=identity,
            plan=self.plan,
            encoding=config.run.encoding,
            label=label,
            pooled=pooled,
            prior=self._own_prior(config),
            answers=self.answers,
        )

    def _own_prior(self, config: RunConfig) -> OwnPrior | None:
        if self.plan.schedule != "alone":
            return None
        layers = self.plan.parameters.layers
        return OwnPrior(
            covariance=digest_covariance(self.covariance, layers),
            travels=self.shares is not None,
            weight=self.prior_weight,
            memory_weight=self.memory_weight(config.prior),
        )


def prepare(
    config: RunConfig,
    on_tokens: Callable[[int], None] | None = None,
    texts: TextPool | None = None,
    on_model: Callable[[], None] = lambda: None,
) -> Preparation:
    """Load and check everything that a run needs, before any client computes.

    An `InputError` names the setting that does not fit the model.

    Args:
        config: The settings of the run.
        on_tokens: Called with the number of tokens processed for the covariance.
        texts: Asks the parties for their texts; needed if the covariance is federated.
        on_model: Called once the model is loaded.
    """
    path = resolve_model(config.model.path)
    chosen = choose_hyperparameters(config.editing, path)
    log(logging.INFO, "Hyperparameters: %s", chosen.origin)
    capability = open_capability(config.capability, path)
    model = chosen.load(path, config.model.dtype, config.model.device)
    on_model()
    folder = Path(path) if Path(path).is_dir() else None
    parameters = chosen.fit(model)
    answers = find_rule(config, model, parameters.layers, path)
    plan = Plan(
        parameters=parameters,
        # All layers are read on the model as the round begins, in one exchange.
        schedule="frozen-uniform" if answers else config.editing.schedule,
        templates=choose_templates(model, config.editing, folder),
    )
    check_streams(plan)
    facts = file_in_model(path, "held_out.json")
    held_out = read_held_out(facts) if facts else ()
    if answers:
        if unread := name_unread_text(config.prior):
            name = config.editor.name
            log(logging.WARNING, "%s reads no text: %s", name, ", ".join(unread))
        covariance, shares = no_covariance(model, parameters.layers), None
    elif config.prior.covariance == FEDERATED:
        pooled = pool_texts(texts, model, plan)
        covariance, shares = pooled.covariance, pooled.shares
    else:
        covariance, shares = _find_covariance(config, model, plan, on_tokens), None
    covariance.check(model, parameters.layers)
    digest = digest_covariance(covariance, parameters.layers)
    return Preparation(
        model,
        plan,
        covariance,
        config.prior.weight or parameters.mom2_update_weight,
        held_out,
        {
            **digest_inputs(config.requests, path),
            **digest_capability(capability),
            "covariance": digest,
            **(answers.files if answers else {}),
        },
        shares,
        chosen.describe(),
        norms=measure_norms(model, plan.templates, parameters.layers),
        answers=answers,
        capability=capability,
    )


def find_rule(
    config: RunConfig, model: EditableModel, layers: Sequence[int], path: str
) -> AnyRule | None:
    """Return how values are made, if the editor reads at the answers' tokens.

    A file that does not fit the model is an `InputError`.

    Args:
        config: Names the editor.
        model: The server's copy.
        layers: The edited blocks.
        path: The model's folder, next to which a file may be.

    Raises:
        InputError: If a setting counts on targets, or bounds what cannot be longer.
    """
    rule = config.editor.build().answers
    if rule is None:
        return None
    if config.parties.skip_known is not None:
        raise InputError(
            "`parties.skip-known` compares targets with hidden states, and the editor "
            f"{config.editor.name!r} has no targets. Leave it out."
        )
    for key in ("max_residual_ratio", "max_residual_norm") if rule.pools else ():
        if getattr(config.run, key) is not None:
            raise InputError(
                f"`run.{key.replace('_', '-')}` bounds residuals, and the editor "
                f"{config.editor.name!r} has none: its values are bounded by its "
                "learning rate. Leave it out."
            )
    return complete(rule, path, {layer: model.widths(layer) for layer in layers})


def check_streams(plan: Plan) -> None:
    """Refuse targets of streams at block 0, which no block's output enters.

    Raises:
        InputError: Naming the setting.
    """
    own = plan.steps if plan.schedule == "boundary" else [plan.parameters.layers]
    if plan.parameters.target_of == "streams" and any(step[-1] == 0 for step in own):
        raise InputError(
            '`editing.target-of` = "streams" finds targets at the last layer of '
            "`editing.layers`, and under `boundary` at the first one too; block 0 "
            "cannot be one. Choose other `editing.layers`."
        )


def no_covariance(model: EditableModel, layers: Sequence[int]) -> Covariance:
    """Return the identity for each layer: layers of a width share it."""
    widths = {layer: model.widths(layer)[1] for layer in layers}
    shared = {width: torch.eye(width, dtype=torch.float64) for width in widths.values()}
    moments = {layer: shared[width] for layer, width in widths.items()}
    return Covariance(moments, Provenance(model.fingerprint, "none", 0))


def _find_covariance(
    config: RunConfig,
    model: EditableModel,
    plan: Plan,
    on_tokens: Callable[[int], None] | None,
) -> Covariance:
    named = config.prior.covariance
    return find_covariance(
        model,
        plan.parameters.layers,
        None if named == COMPUTE else named,
        config.prior.text,
        resolve_model(config.model.path),
        on_tokens,
        # Parties that solve alone must get the same bits on their own machines.
        threads=config.model.threads if plan.schedule == "alone" else None,
        tokens=config.prior.tokens,
    )
