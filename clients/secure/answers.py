"""A party's replies under masks: what it would send, as vectors of a secure sum."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict

from clients.resolutions import find_key
from clients.secure.kept import OwnStatistics
from clients.secure.party import RefusedSumError, SummingParty
from clients.secure.state import SecretFiles
from clients.settings import ClientConfig, NodeSettingsError
from clients.storage import PrivateFolder
from editing.algebra.second_moments import TextMoment
from editing.answers.moments import ByShape
from editing.answers.vectors import write_vectors
from editing.memit.pipeline import LayerPairs
from editing.models.loading import EditableModel
from strategies.secure.fixed_point import Reals
from strategies.secure.keys import context, derive
from strategies.secure.records import (
    MaskedRequest,
    Session,
    read_masked_request,
    write_masked,
)
from strategies.secure.vectors import (
    LayerShape,
    pack_count,
    pack_layer,
    pack_metrics,
    pack_moments,
    pack_summary,
)
from strategies.wire.messages import Phase, TargetsReply
from strategies.wire.metrics import EvaluationSums


@dataclass(frozen=True, slots=True)
class Seat:
    """A party's place in the secure sums of a part of the run.

    Attributes:
        party: What it answers.
        simulated: The seed of a simulation, whose rotations repeat; None at a node
            with requests of its own.
        kept: Where what it adds is kept; None if it is not.
    """

    party: SummingParty
    simulated: int | None = None
    kept: OwnStatistics | None = None

    @classmethod
    def of(cls, config: ClientConfig, folder: PrivateFolder, label: str) -> "Seat":
        """Take the seat of the party that this client represents.

        Raises:
            NodeSettingsError: If the node has no number, or lacks the parties' key.
        """
        own = config.own_requests is not None
        if config.party < 0:
            raise NodeSettingsError(
                "The run sums under masks (`privacy.secure-sum`), and this node has no "
                "number. Set `partition-id` in the node config, another at each node."
            )
        if own and config.key is None:
            raise NodeSettingsError(
                "The run sums under masks (`privacy.secure-sum`), and this node was "
                "not given the key that all parties share. Make one with `openssl rand "
                "-hex 32`, give every party the file and the server none, and name it "
                "with `key-path` in the node config."
            )
        files = SecretFiles(folder.secure(label), config.party)
        party = SummingParty(config.party, files, find_key(config, folder))
        seed = None if own else config.seed
        kept = OwnStatistics(folder.statistics(label), config.party, seed)
        return cls(party, seed, kept if config.keep_statistics else None)

    def mask_edits(
        self,
        request: MaskedRequest,
        model: EditableModel,
        pairs: Mapping[int, LayerPairs],
        summary: TargetsReply | None = None,
    ) -> RecordDict:
        """Mask statistics of layers, and in a round's first sum the summary.

        Args:
            request: Which layers, and how.
            model: Has the widths.
            pairs: By layer; none without an edit.
            summary: Of the round's targets.
        """
        vectors: dict[str, Reals] = {}
        for layer in request.forms:
            d_out, d_in = model.widths(layer)
            own = pairs.get(layer)
            vectors |= pack_layer(
                None if own is None else (own.keys, own.residuals),
                LayerShape(layer, d_in, d_out),
                request,
                self.party.party,
                self._rotation_secret(request.session),
            )
        edits = max((len(each.keys) for each in pairs.values()), default=0)
        counts = pack_count(edits) if summary is None else pack_summary(summary, edits)
        words = self.party.mask(request, vectors | counts)
        if self.kept is not None:
            for layer in request.forms:
                widths = model.widths(layer)
                self.kept.keep(request, layer, widths, pairs.get(layer))
        return write_masked(words)

    def mask_metrics(
        self, request: MaskedRequest, evaluation: EvaluationSums
    ) -> RecordDict:
        """Mask the metrics of all rounds so far."""
        vectors = pack_metrics(evaluation, request.session.round)
        return write_masked(self.party.mask(request, vectors))

    def mask_moments(
        self,
        request: MaskedRequest,
        moments: Mapping[int, TextMoment],
        widths: Mapping[int, int],
    ) -> RecordDict:
        """Mask the moments of a party's own texts, by layer."""
        return write_masked(self.party.mask(request, pack_moments(moments, widths)))

    def mask_answers(self, request: MaskedRequest, moments: ByShape) -> RecordDict:
        """Mask the moments of keys and gradients at the answers' tokens."""
        vectors = {name: each.numpy() for name, each in write_vectors(moments).items()}
        return write_masked(self.party.mask(request, vectors))

    def _rotation_secret(self, session: Session) -> bytes:
        """Derive the secret of the rotations of a session; a simulation's repeat."""
        if self.simulated is not None:
            return derive(str(self.simulated).encode(), context("simulated rotation"))
        return derive(
            self.party.key, context("secret rotation", session.run, session.attempt)
        )


def refuse_plain(message: Message, config: ClientConfig) -> None:
    """Refuse a question whose answer would leave without a mask, if the node does.

    Blind tokens have no mask, and are none of a sum.

    Raises:
        RefusedSumError: Saying which settings disagree.
    """
    masked = read_masked_request(message.content) is not None
    tokens = message.metadata.message_type == Phase.TOKENS
    if config.require_secure_sum and not masked and not tokens:
        raise RefusedSumError(
            "The run does not sum under masks (`privacy.secure-sum` is false), and "
            "this node answers under masks alone (`require-secure-sum`). Nothing is "
            "sent. Ask whoever starts the run to set it to true."
        )
