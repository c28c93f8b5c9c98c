"""What a client answers in a round of an editor that reads at the answers' tokens.

If values depend on the moments of all parties, it first sends those of its keys and
gradients; then, given what all parties have alike, its statistics. Both are of the
model as the round begins, which is read again: nothing of it is kept on a disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from flwr.app import Message, RecordDict

from clients.contribution import choose, encode_pairs, seed_of
from clients.secure.answers import Seat
from clients.selection import Asked, asked_until, group_by_party
from clients.settings import ClientConfig
from clients.storage import PrivateFolder
from clients.updates import find_updates
from editing.algebra.deltas import applied
from editing.algebra.statistics import StatisticsError
from editing.answers.gradients import read_answers
from editing.answers.moments import Moments, Shape, pool_moments, sum_moments
from editing.answers.pairs import AnswerPairs
from editing.answers.rule import AnswerRule, Given
from editing.memit.pipeline import LayerPairs
from editing.models.loading import EditableModel
from editing.sources.embedded import resolve_model
from strategies.conflicts.records import read_resolutions
from strategies.secure.records import read_masked_request
from strategies.wire.answers import read_moments, write_moments
from strategies.wire.messages import (
    Job,
    ProtocolError,
    TargetsReply,
    write_contribution,
    write_targets_reply,
)

Pairs = Mapping[int, AnswerPairs]


@dataclass(frozen=True, slots=True)
class AnswerReplies:
    """What a client answers to one message of such a round.

    Attributes:
        message: The server's question.
        config: The node's settings.
        model: Without the updates of earlier rounds.
        job: What is asked.
        folder: The run's private folder.
    """

    message: Message
    config: ClientConfig
    model: EditableModel
    job: Job
    folder: PrivateFolder

    @property
    def rule(self) -> AnswerRule:
        """How values are made.

        Raises:
            ProtocolError: If the job does not say it.
        """
        if self.job.answers is None:
            raise ProtocolError(
                "The server asks for keys and gradients at the answers' tokens, and "
                "its job names no editor that needs them. Do server and clients run "
                "the same version?"
            )
        return self.job.answers

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the layers that are asked for."""
        return [*dict.fromkeys(self.model.widths(layer) for layer in self.job.layers)]

    def moments(self) -> Message:
        """Send the moments of the round's requests, under a mask if asked to."""
        return Message(self._sum(), reply_to=self.message)

    def statistics(self) -> Message:
        """Send a summary of the round's requests, and their statistics."""
        return Message(self._contribute(), reply_to=self.message)

    def _sum(self) -> RecordDict:
        rule = self.rule
        if not rule.pools:
            raise ProtocolError(
                "The server asks for moments of keys and gradients, and its job names "
                "an editor that needs none. Do server and clients run the same version?"
            )
        _, edited = self._choose()
        found = [sum_moments(p, products=rule.whitens) for p in self._read(edited)]
        none = {s: Moments.zero(s, products=rule.whitens) for s in self.shapes}
        moments = pool_moments([none, *found])
        masked = read_masked_request(self.message.content)
        if masked is None:
            return write_moments(moments)
        return self._seat().mask_answers(masked, moments)

    def _contribute(self) -> RecordDict:
        (asked, edited), job, config = self._choose(), self.job, self.config
        resolutions = read_resolutions(self.message.content)
        so_far = asked_until(config, job.round, pooled=job.pooled)
        self.folder.keep_resolutions(job, config.party, so_far, resolutions)
        left_out = len(asked) - len(edited)
        reply = TargetsReply(requests=len(edited), left_out=left_out)
        masked = read_masked_request(self.message.content)
        if not edited and masked is None:
            return write_targets_reply(reply)
        pairs = self._values(edited)
        if masked is not None:
            return self._seat().mask_edits(masked, self.model, pairs, reply)
        parts = encode_pairs(pairs, job, seed_of(config), self.model.dtype)
        return write_contribution(reply, parts, job.round)

    def _choose(self) -> tuple[list[Asked], list[Asked]]:
        return choose(self.message, self.config, self.job, self.folder)

    def _seat(self) -> Seat:
        return Seat.of(self.config, self.folder, self.job.label)

    def _read(self, edited: Sequence[Asked]) -> list[Pairs]:
        """Read keys and gradients party by party, as each party does by itself."""
        updates = find_updates(self.message, self.folder.updates)
        groups = group_by_party(edited, self.config.requests)
        with applied(updates, self.model.model):
            return [
                read_answers(
                    self.model,
                    group.requests,
                    self.job.layers,
                    batch_size=self.config.batch_size,
                )
                for group in groups
            ]

    def _given(self) -> Given:
        """Return what all parties have alike.

        Raises:
            ProtocolError: If the server's message does not hold the moments of all.
        """
        path = resolve_model(self.config.model.path)
        given = Given(model_path=path, hypernetwork=self.config.hypernetwork)
        if not self.rule.pools:
            return given
        content, products = self.message.content, self.rule.whitens
        try:
            found = read_moments(content, self.shapes, products=products)
            return replace(given, moments=found)
        except StatisticsError as error:
            raise ProtocolError(
                f"{error} Do server and clients run the same version?"
            ) from None

    def _values(self, edited: Sequence[Asked]) -> dict[int, LayerPairs]:
        """Put values next to the keys."""
        rule, given = self.rule, self._given()
        read = self._read(edited)
        if not read:
            return {}
        whole = {layer: _join([each[layer] for each in read]) for layer in read[0]}
        values = rule.values(whole, given)
        return {k: LayerPairs(own.keys, values[k]) for k, own in whole.items()}


def _join(parts: Sequence[AnswerPairs]) -> AnswerPairs:
    return AnswerPairs(
        torch.cat([each.keys for each in parts]),
        torch.cat([each.gradients for each in parts]),
    )
