"""``C₀`` of all parties' texts: pooled once, and kept for a resumed run."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid
from pydantic import JsonValue, ValidationError

from editing.algebra.second_moments import MomentBounds
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.covariance.covariance import Covariance, Provenance, name_dtype, with_ridge
from editing.covariance.files import load_covariance, save_covariance
from editing.covariance.sums import DOUBLE, SINGLE
from editing.covariance.texts import split_name
from editing.files.atomic import write_whole
from editing.hyperparameters.config import Plan
from editing.memit.typical_norms import measure_norms
from editing.models.loading import EditableModel
from editing.sources.embedded import EMBEDDED, file_in_model, resolve_model
from server.checkpoints import differences
from server.config import RunConfig
from server.inputs import digest_file, digest_source
from strategies.rounds.callbacks import RoundCallbacks
from strategies.rounds.covariance import pool_moments
from strategies.rounds.limits import Limits
from strategies.rounds.registry import PartyRegistry
from strategies.scenario import FEDERATED
from strategies.summing.moments import pool_masked_moments
from strategies.wire.messages import Job, ModelIdentity

LABEL = "covariance"
"""The name of the exchange in logs."""


class TextShares(Settings):
    """How much text each party added to the covariance; nothing but counts.

    Attributes:
        tokens: Number of tokens of each party that answered; of all together, under
            −1, if they were summed under masks.
        left_out: Who was asked and added nothing, and why.
    """

    tokens: Mapping[int, int]
    left_out: tuple[str, ...] = ()


class Record(Settings):
    """What a kept covariance was made of, and what each party added."""

    made_of: Mapping[str, JsonValue]
    shares: TextShares


@dataclass(frozen=True, slots=True)
class PooledCovariance:
    """The covariance of all parties' texts, and what each of them added."""

    covariance: Covariance
    shares: TextShares


@dataclass(frozen=True, slots=True)
class TextPool:
    """Asks the parties for the second moments of their texts, once in a run.

    Attributes:
        seats: Gives Flower's way to the parties, once they are wanted.
        config: Says how many there are, and where the run keeps what it needs.
        callbacks: Receives progress, and the cost of the exchange with each node.
    """

    seats: Callable[[], Grid]
    config: RunConfig
    callbacks: RoundCallbacks | None = None

    def find(self, model: EditableModel, plan: Plan) -> PooledCovariance:
        """Read the covariance kept before the run was resumed, or ask the parties.

        A resumed run must have the same bits, and by then a party may have left, or
        hold other texts.
        """
        folder = self.config.output.checkpoint
        if not folder:
            return self._ask(model, plan)
        file = place_in(Path(folder))
        made_of = self._made_of(model, plan)
        if record_of(file).exists():
            return read_kept(file, made_of, plan.parameters.layers)
        found = self._ask(model, plan)
        keep(file, made_of, found)
        return found

    def _ask(self, model: EditableModel, plan: Plan) -> PooledCovariance:
        layers = plan.parameters.layers
        identity = ModelIdentity(
            weights=model.fingerprint,
            tokenizer=model.tokenizer_fingerprint,
            configuration=model.configuration_fingerprint,
        )
        secure = bool(self.config.privacy.secure_sum)
        pooled = (pool_masked_moments if secure else pool_moments)(
            self.seats(),
            Job(identity=identity, plan=plan, label=LABEL, layers=layers),
            {layer: model.widths(layer)[1] for layer in layers},
            PartyRegistry(
                self.config.run.min_parties,
                self.callbacks,
                Limits(
                    self.config.parties,
                    widths={layer: model.widths(layer) for layer in layers},
                ),
            ),
            parties=self.config.parties.count,
            timeout=self.config.run.timeout,
            bounds=bound_means(model, plan, self.config.run.text_ratio),
        )
        tokens = sum(pooled.tokens.values())
        single = any(moment.single for moment in pooled.moments.values())
        made = Provenance(
            model.fingerprint,
            FEDERATED,
            tokens,
            products=SINGLE if single else DOUBLE,
            dtype=name_dtype(model),
        )
        shares = TextShares(tokens=pooled.tokens, left_out=pooled.left_out)
        covariance = Covariance(pooled.covariances(), made)
        return PooledCovariance(with_ridge(covariance), shares)

    def _made_of(self, model: EditableModel, plan: Plan) -> dict[str, JsonValue]:
        """All that the server knows of what the covariance depends on."""
        text = self.config.prior.text
        digest = digest_text(text, resolve_model(self.config.model.path))
        return {
            "model": model.fingerprint,
            "editing.layers": list(plan.parameters.layers),
            "model.threads": self.config.model.threads,
            "parties.count": self.config.parties.count,
            "prior.text": [text, digest],
        }


def bound_means(
    model: EditableModel, plan: Plan, ratio: float
) -> dict[int, MomentBounds]:
    """Compute the bounds, by layer, on the mean of ``‖k‖²`` of a party's text.

    Args:
        model: The model that has the keys.
        plan: Names the layers, and has the texts that the server reads itself.
        ratio: By how much keys may be longer or shorter than in these.
    """
    layers = plan.parameters.layers
    typical = measure_norms(model, plan.templates, layers)
    return {
        layer: MomentBounds(each.median / ratio / ratio, each.mean * ratio * ratio)
        for layer, each in typical.keys.items()
    }


def digest_text(text: str, model_path: str) -> str | None:
    """SHA-256 of the file or saved folder that `prior.text` names, without its field.

    None if nothing of it can be read here.
    """
    if text == EMBEDDED:
        file = file_in_model(model_path, "text.txt")
        return digest_file(file) if file else None
    return digest_source(split_name(text)[0])


def pool_texts(
    texts: TextPool | None, model: EditableModel, plan: Plan
) -> PooledCovariance:
    """Pool the covariance of the parties' texts.

    Raises:
        InputError: If the run has no parties.
    """
    if texts is None:
        raise InputError(
            f"`prior.covariance` is `{FEDERATED}`, and there are no parties here whose "
            "texts it could use. Run it with its parties, or set it to `compute`."
        )
    return texts.find(model, plan)


def describe_shares(shares: TextShares | None) -> dict[str, object]:
    """Describe them for a run's settings; empty if parties were not asked."""
    if shares is None:
        return {}
    return {
        "tokens_by_party": {str(party): n for party, n in shares.tokens.items()},
        "left_out": list(shares.left_out),
    }


def keep(file: Path, made_of: Mapping[str, JsonValue], found: PooledCovariance) -> None:
    """Write a pooled covariance, then the record of what it was made of."""
    save_covariance(found.covariance, file)
    record = Record(made_of=made_of, shares=found.shares)
    # The last step: without a record, the covariance is ignored.
    write_whole(record_of(file), record.model_dump_json(indent=2) + "\n")


def read_kept(
    file: Path, made_of: Mapping[str, JsonValue], layers: tuple[int, ...]
) -> PooledCovariance:
    """Read what `keep` wrote, to the last bit.

    Raises:
        InputError: If the record is broken, or the covariance made of something else.
    """
    try:
        record = Record.model_validate_json(record_of(file).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{record_of(file)}: is no record of a covariance "
            f"({type(error).__name__}); remove it to ask the parties again"
        ) from None
    different = differences(record.made_of, made_of)
    if different:
        raise InputError(
            f"{file}: was pooled by a run with another {', '.join(different)}; give "
            "that run's settings, or name another folder"
        )
    return PooledCovariance(load_covariance([file], layers), record.shares)


def remove_kept(folder: Path) -> None:
    """Remove what a run kept with its checkpoint, if it asked the parties."""
    file = place_in(folder)
    for path in (record_of(file), file):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it does not exist, or holds other files
        file.parent.rmdir()


def place_in(folder: Path) -> Path:
    """Return the file of a pooled covariance in a run's checkpoint folder."""
    return folder / FEDERATED / "covariance.safetensors"


def record_of(file: Path) -> Path:
    """Return the file that records what a covariance was made of."""
    return file.with_suffix(".json")
