"""The data of a report."""

from pathlib import Path

from pydantic import (
    Field,
    JsonValue,
    ValidationError,
    field_serializer,
    model_validator,
)

from editing.base.errors import InputError
from editing.base.origin import Origin
from editing.base.settings import Settings
from editing.base.validation import explain
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.definitions import define_all, find_unlike


class LeftOutParty(Settings):
    """A party whose contribution was left out of a round.

    Attributes:
        node: Flower's number of the node.
        reason: Why; it quotes nothing private.
        name: What log and report call the party; empty if it is not known.
    """

    node: int | str
    reason: str
    name: str = ""

    @property
    def label(self) -> str:
        """Return the party's name, or words for a party without one."""
        return self.name or "a party without a name"


class PartyWeight(Settings):
    """What a party's statistics weigh in a round.

    Attributes:
        name: What log and report call the party.
        leverage: ``tr(A⁻¹ S)``, of ``A`` the prior and all statistics; how many of the
            edits that a layer has room for are its own.
        share: ``‖B A⁻¹‖``, the norm of its share of the update.
        layer: Where the leverage is largest.
    """

    name: str
    leverage: float
    share: float
    layer: int


class RoundMetrics(Settings):
    """The metrics after one round; None where nothing was measured.

    Successes and accuracies are per cent, differences are of probabilities.

    Attributes:
        score: Harmonic mean of the three successes.
        rewrite_success: Efficacy (ES).
        paraphrase_success: Generalization (PS).
        neighborhood_success: Specificity (NS).
        groups: Metrics of a part of the prompts, named ``metric.part``.
        held_out_acc: Share of facts never edited that the model still answers.
        refusals: The parties left out of the round.
        retained: The metrics of the requests of all earlier rounds, evaluated after
            this one; None in the first.
        by_round: The metrics of the requests of each round up to this one.
        all_edits: Where answers were generated, the metrics of the requests of all
            rounds up to this one together, by name; empty elsewhere.
        evaluated: How many requests these metrics are over: all requests of the parties
            that evaluated, edited or left out.
        counts: By metric, how many requests it is over, if not that many.
        requests: How many requests were edited in the round.
        known: How many were left out because the model knows them.
        left_out: How many were left out because another party has the same fact.
        duplicates: How many were made more than once in the round.
        conflicts: Facts with more than one object.
        residual_norm: Mean of ``‖z − h‖`` over the round's requests, before the edit.
        residual_ratio: Mean of ``‖z − h‖ / ‖h‖``.
        target_loss: Mean loss of the targets ``z``: −log p(target_new) by token.
        target_probability: Mean probability of the new object at ``z``, from 0 to 1.
        target_stopped: Share of targets that reached the stop, from 0 to 1.
        target_clamped: Share of targets that end at the clamp, from 0 to 1.
        residual_left: Mean of ``‖z − h'‖ / ‖z − h‖``, ``h'`` on the edited model.
        weights: What each party weighs, if the release gate is closed and the server
            sees each party's statistics.
        gate: What the release gate measured before it accepted the round; empty if it
            is open.
        budget: The budget that the editor has in use, in per cent; None for editors
            without one.
        capability: What the server measured of the whole model, by name: the
            perplexity of a text, and tasks as ``task.metric``; empty if nothing.
    """

    score: float | None = None
    rewrite_success: float | None = None
    paraphrase_success: float | None = None
    neighborhood_success: float | None = None
    rewrite_acc: float | None = None
    paraphrase_acc: float | None = None
    neighborhood_acc: float | None = None
    rewrite_diff: float | None = None
    paraphrase_diff: float | None = None
    neighborhood_diff: float | None = None
    held_out_acc: float | None = None
    groups: dict[str, float] = Field(default_factory=dict)
    refusals: tuple[LeftOutParty, ...] = ()
    retained: "RoundMetrics | None" = None
    by_round: tuple["RoundMetrics", ...] = ()
    all_edits: dict[str, float] = Field(default_factory=dict)
    evaluated: int | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    requests: int | None = None
    known: int = 0
    left_out: int = 0
    duplicates: int = 0
    conflicts: int = 0
    residual_norm: float | None = None
    residual_ratio: float | None = None
    target_loss: float | None = None
    target_probability: float | None = None
    target_stopped: float | None = None
    target_clamped: float | None = None
    residual_left: float | None = None
    weights: tuple[PartyWeight, ...] = ()
    gate: str = ""
    budget: float | None = None
    capability: dict[str, float] = Field(default_factory=dict)

    def measured(self) -> set[str]:
        """Return the names of what was measured."""
        nested = {"retained", "by_round", "counts"}
        own = self.model_dump(exclude_none=True, exclude=nested)
        return {*own, *self.groups, *self.all_edits, *self.capability}

    @field_serializer("retained", "by_round", when_used="json")
    def _write_what_is_known(
        self, metrics: "RoundMetrics | tuple[RoundMetrics, ...] | None"
    ) -> JsonValue:
        """Leave out absent metrics: rounds within rounds would fill the file."""
        if isinstance(metrics, tuple):
            return [self._write_what_is_known(each) for each in metrics]
        if metrics is None:
            return None
        empty = {
            name for name in ("retained", "by_round") if not getattr(metrics, name)
        }
        known: JsonValue = metrics.model_dump(
            mode="json", exclude_defaults=True, exclude=empty
        )
        return known


class PartyRecord(Settings):
    """What the server knows of one party, over all rounds of a merge.

    With secure sums it knows no party's requests and metrics.

    Attributes:
        name: What log and report call the party.
        requests: How many of its requests were edited; None if it is not known.
        known: How many were left out because the model knows them.
        left_out: How many were left out because another party has the same fact.
        rounds: In how many rounds the sums have a part of it.
        refused: In how many it was left out.
        seconds: From sending each message to its reply.
        bytes_sent: Size of all its replies.
        evaluated: How many of its requests the metrics are over.
        metrics: Of its requests of all rounds, after the last evaluation.
    """

    name: str
    requests: int | None = None
    known: int = 0
    left_out: int = 0
    rounds: int = 0
    refused: int = 0
    seconds: float = 0.0
    bytes_sent: int = 0
    evaluated: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class RunReport(Settings):
    """The results of one merge over all rounds.

    Attributes:
        merge: The name of the merge.
        schedule: When a layer sees the other layers' updates.
        rounds: How many rounds were run.
        metrics: One entry a round, over the requests that were new in it.
        relative_difference_to_global: Largest over layers of ‖Δ − Δ_global‖ /
            ‖Δ_global‖ of the accumulated delta; None if `global` was not run.
        seconds: Wall time of the run, evaluation included.
        bytes_per_party: Size of what a party sent in all rounds, mean over parties.
        timings: Wall time of each phase, in seconds.
        settings: All settings of the run.
        update_ratios: ``‖Δ‖/‖W‖`` of the accumulated update by parameter name.
        warnings: What may keep the edits from working, and what to try.
        definitions: The id of each metric's definition. Reports of earlier versions
            have none: their metrics are as `define` says by default.
        parties: What is known of each party; empty for `global`, which has none.
    """

    merge: str
    schedule: str
    rounds: int
    metrics: tuple[RoundMetrics, ...] = Field(min_length=1)
    relative_difference_to_global: float | None = None
    seconds: float
    bytes_per_party: float
    timings: dict[str, float] = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    update_ratios: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    definitions: dict[str, str] = Field(default_factory=dict)
    parties: tuple[PartyRecord, ...] = ()

    def define_metrics(self, config: EvaluationConfig | None = None) -> dict[str, str]:
        """Return the id of each metric that was measured.

        Args:
            config: What it was measured with, where the report does not say.
        """
        names = sorted({name for each in self.metrics for name in each.measured()})
        known = define_all(names, config) | self.definitions
        return {name: known[name] for name in names if name in known}


class Report(Settings):
    """The results of all merges of a run, on the same requests.

    Attributes:
        runs: One entry a merge.
        unedited: The metrics before any edit, on the same prompts.
        rounding: What rounding alone explains of the differences to `global`, which
            was run then; estimated, the largest over layers.
        origin: When it was made, of which versions and by which command; None in
            reports of earlier versions.
    """

    runs: tuple[RunReport, ...] = Field(min_length=1)
    unedited: RoundMetrics | None = None
    rounding: float | None = None
    origin: Origin | None = None

    @model_validator(mode="after")
    def check_definitions(self) -> "Report":
        """Refuse runs of which one column would hold unlike figures.

        Raises:
            ValueError: If a metric has several definitions.
        """
        defined = [run.define_metrics() for run in self.runs]
        if unlike := sorted(find_unlike(defined)):
            name = unlike[0]
            ids = dict.fromkeys(each[name] for each in defined if name in each)
            raise ValueError(
                f"`{name}` is measured by unlike definitions: {', '.join(ids)}; "
                "evaluate the runs alike, or keep them in reports of their own"
            )
        return self


def read_report(path: Path) -> Report:
    """Read a ``report.json``.

    Raises:
        InputError: If it cannot be read, or holds something else.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        raise InputError(
            f"{path}: is no report of a run ({explain(error, Report)})"
        ) from None
