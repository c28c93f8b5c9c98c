"""What an editor may set: MEMIT's hyperparameters and how a run chooses them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.text import read_json
from editing.models.module_names import ModuleNames

Schedule = Literal[
    "layerwise", "frozen-harmonic", "frozen-uniform", "alone", "boundary"
]
Stop = Literal["loss", "top-1"]
TargetOf = Literal["block", "streams"]

MODULE_FIELDS = (
    "rewrite_module_tmp",
    "layer_module_tmp",
    "mlp_module_tmp",
    "attn_module_tmp",
    "ln_f_module",
    "lm_head_module",
)
"""Hyperparameters that name the modules of a model."""


class Hyperparameters(Settings):
    """MEMIT's hyperparameters, under the names its JSON files use.

    `editing.hyperparameters.files` reads the published files as they are. Fields that
    name modules override what is known of the model's architecture; fields that only
    describe how a covariance was collected are kept as provenance.

    Attributes:
        layers: Edited blocks, counted from 0, in ascending order.
        v_num_grad_steps: Loss evaluations a target may take; one step fewer.
        v_lr: Adam's learning rate for targets.
        v_loss_layer: Block whose output the loss reads; None is the last.
        v_weight_decay: Weight of ``‖δ‖ / ‖h‖²``.
        clamp_norm_factor: Largest ``‖δ‖`` in units of ``‖h‖``.
        kl_factor: Weight of the KL term.
        target_of: What a target is of: the hidden state after the last edited
            ``block``, or what the edited module adds to it, shifted together with what
            attention adds (``streams``; PMET, arXiv 2308.08742).
        stop: When the search for a target ends before its last step: once the ``loss``
            is below 0.05, or also once every target token is the most likely one after
            every rewriting prompt (``top-1``; MPES, arXiv 2502.01636).
        top_1_steps: Further evaluations that ``top-1`` waits for.
        norm_anchor: The length ``c`` that the value a target asks for is brought to
            (norm-anchor scaling, arXiv 2602.02543); None leaves targets as found.
        mom2_update_weight: The prior weight λ of ``λ·C₀``.
        fact_token: Where in a prompt the edit is written; only the subject's last token
            is supported.
        layer_selection: Which of `layers` are edited; only ``all`` is supported.
        mom2_adjustment: Whether a covariance is used; only ``true`` is supported.
        rewrite_module_tmp: Name of the edited module, with ``{}`` for the block.
        layer_module_tmp: Name of a block, with ``{}`` for its number.
        mlp_module_tmp: Name of a block's MLP.
        attn_module_tmp: Name of a block's attention.
        ln_f_module: Name of the last layer norm.
        lm_head_module: Name of the vocabulary head.
        mom2_dataset: The data set of the published covariance; kept as provenance.
        mom2_n_samples: The number of its samples; kept as provenance.
        mom2_dtype: Its precision; kept as provenance.
    """

    layers: tuple[int, ...] = Field(min_length=1)
    v_num_grad_steps: PositiveInt = 25
    v_lr: PositiveFloat = 0.5
    v_loss_layer: int | None = Field(default=None, ge=0)
    v_weight_decay: float = Field(default=0.5, ge=0)
    clamp_norm_factor: PositiveFloat = 0.75
    kl_factor: float = Field(default=0.0625, ge=0)
    target_of: TargetOf = "block"
    stop: Stop = "loss"
    top_1_steps: int = Field(default=1, ge=0)
    norm_anchor: float | None = Field(default=None, gt=0)
    mom2_update_weight: PositiveFloat = 15000.0
    fact_token: Literal["subject_last"] = "subject_last"
    layer_selection: Literal["all"] = "all"
    mom2_adjustment: Literal[True] = True
    rewrite_module_tmp: str | None = None
    layer_module_tmp: str | None = None
    mlp_module_tmp: str | None = None
    attn_module_tmp: str | None = None
    ln_f_module: str | None = None
    lm_head_module: str | None = None
    mom2_dataset: str | None = None
    mom2_n_samples: int | None = None
    mom2_dtype: str | None = None

    @property
    def naming(self) -> ModuleNames | None:
        """Return the names of modules alone; None if none is given.

        One loaded model serves all hyperparameters that name the same modules.
        """
        names = ModuleNames(
            block=self.layer_module_tmp,
            down_projection=self.rewrite_module_tmp,
            final_norm=self.ln_f_module,
            head=self.lm_head_module,
        )
        return names if names.given else None

    @property
    def boundary(self) -> tuple[int, ...]:
        """Return the first and the last edited layer (BLUE, arXiv 2502.03748)."""
        return tuple(dict.fromkeys((self.layers[0], self.layers[-1])))

    def share(self, index: int, schedule: Schedule) -> float:
        """Fraction of ``z − h`` that the ``index``-th edited layer writes.

        All of it for `boundary`, where each layer has a target of its own, ``1 / L``
        for `frozen-uniform`, and ``1 / (L − i)`` for the others; with targets of the
        streams the root of that, as in PMET.
        """
        total = len(self.layers)
        if schedule == "boundary":
            return 1.0
        share = 1 / total if schedule == "frozen-uniform" else 1 / (total - index)
        return share if self.target_of == "block" else math.sqrt(share)

    def steps(self, schedule: Schedule) -> list[tuple[int, ...]]:
        """Layers that are read on one state of the model, in order.

        Where a layer must see the updates of those before it, each is a step.
        """
        if schedule == "boundary":
            return [(layer,) for layer in self.boundary]
        if schedule in {"layerwise", "alone"}:
            return [(layer,) for layer in self.layers]
        return [self.layers]

    def exchanges(self, schedule: Schedule) -> list[tuple[int, ...]]:
        """Layers whose statistics travel together, in order.

        `layerwise` needs one exchange a layer because each layer must see the merged
        delta of the layers before it. Under `alone` a party sees its own, so that it
        takes all steps before it sends anything.
        """
        return [self.layers] if schedule == "alone" else self.steps(schedule)


class Plan(Settings):
    """How requests become keys and residuals, the same at every party.

    Attributes:
        parameters: MEMIT's hyperparameters.
        schedule: The order in which layers see each other's updates.
        templates: Context templates, the bare one included.
    """

    parameters: Hyperparameters
    schedule: Schedule
    templates: tuple[str, ...]

    @property
    def steps(self) -> list[tuple[int, ...]]:
        """Layers that are read on one state of the model."""
        return self.parameters.steps(self.schedule)

    @property
    def exchanges(self) -> list[tuple[int, ...]]:
        """Layers whose statistics travel together."""
        return self.parameters.exchanges(self.schedule)

    def at(self, layers: Sequence[int]) -> "Plan":
        """Return the plan for the targets and residuals of some layers.

        Under `boundary` a layer has targets of its own, as if no other were edited.
        """
        if self.schedule != "boundary":
            return self
        own = self.parameters.model_copy(update={"layers": tuple(layers)})
        return self.model_copy(update={"parameters": own})


BATCH_SIZE = 128
"""Requests whose targets are computed together, unless a setting says otherwise."""


class EditingConfig(Settings):
    """The ``[editing]`` table: what differs from a hyperparameter file, and the rest.

    Attributes:
        hyperparameters: A file (JSON, YAML or TOML) or the name of a preset; None takes
            the model's own file if it has one, else the preset of its name.
        schedule: Which layers are read on which model; see docs/method.md. Under
            ``alone`` each party edits by itself, and the results are merged; under
            ``boundary`` only the first and the last of the layers are edited.
        context_templates: A JSON list of strings with one ``{}`` each, the bare one
            included; None takes the model's own or generates them from `context_seed`.
        context_seed: Draws the generated context templates.
        batch_size: Requests whose targets are computed together.
        layers: Edited blocks, counted from 0; unset, those of the hyperparameters, as
            for all keys below.
        v_num_grad_steps: Loss evaluations a target may take; one step fewer.
        v_lr: Adam's learning rate for targets.
        v_loss_layer: Block whose output the loss reads.
        v_weight_decay: Weight of ``‖δ‖ / ‖h‖²``.
        clamp_norm_factor: Largest ``‖δ‖`` in units of ``‖h‖``.
        kl_factor: Weight of the KL term.
        target_of: What a target is of: the hidden state after the last edited
            ``block``, or the ``streams`` of its MLP and its attention (PMET).
        stop: When the search for a target ends before its last step: once the ``loss``
            is below 0.05, or also once every target token is the most likely one after
            every rewriting prompt (``top-1``).
        top_1_steps: Further evaluations that ``top-1`` waits for.
        norm_anchor: The length that the value a target asks for is brought to; `python
            -m sims norm-anchor` measures it.
        fact_token: Where in a prompt the edit is written.
    """

    hyperparameters: str | None = None
    schedule: Schedule = "layerwise"
    context_templates: Path | None = None
    context_seed: int = 0
    batch_size: PositiveInt = BATCH_SIZE
    layers: tuple[int, ...] | None = None
    v_num_grad_steps: PositiveInt | None = None
    v_lr: PositiveFloat | None = None
    v_loss_layer: int | None = None
    v_weight_decay: float | None = None
    clamp_norm_factor: PositiveFloat | None = None
    kl_factor: float | None = None
    target_of: TargetOf | None = None
    stop: Stop | None = None
    top_1_steps: int | None = None
    norm_anchor: PositiveFloat | None = None
    fact_token: Literal["subject_last"] | None = None


def read_context_templates(path: Path) -> tuple[str, ...]:
    """Read a JSON list of templates and put the bare one first.

    Raises:
        InputError: If it is no list of strings with one ``{}`` each, or the bare
            template is missing.
    """
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{path}: wanted a JSON list of strings.")
    for number, text in enumerate(value, start=1):
        if text.count("{}") != 1:
            raise InputError(
                f"{path}: template {number} wants exactly one {{}}: {text!r}."
            )
    if "{}" not in value:
        raise InputError(f'{path}: the bare template "{{}}" must be in the list.')
    return ("{}", *(text for text in value if text != "{}"))
