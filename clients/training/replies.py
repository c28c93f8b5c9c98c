"""A party's part of a training step, of the requests of its first round.

Every message is answered from the requests alone: the step's batch follows from the
question (`editing.malmen.holders.choose_batch`), and nothing is kept between messages.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import Message, RecordDict

from clients.contribution import encode_pairs, seed_of
from clients.selection import asked_in, group_by_party
from clients.settings import ClientConfig
from editing.malmen.holders import Holder
from editing.memit.pipeline import LayerPairs
from editing.models.loading import EditableModel
from strategies.training.records import (
    read_layers,
    read_net,
    read_question,
    write_gradients,
    write_losses,
)
from strategies.wire.answers import write_moments
from strategies.wire.messages import (
    Job,
    Phase,
    TargetsReply,
    write_contribution,
    write_targets_reply,
)


@dataclass(frozen=True, slots=True)
class TrainingReplies:
    """What a client answers to one message of a training.

    Attributes:
        message: The server's question.
        config: The node's settings.
        model: The model, which training does not change.
        job: What is asked.
    """

    message: Message
    config: ClientConfig
    model: EditableModel
    job: Job

    def answer(self) -> Message:
        """Send the sum that the message asks for."""
        answers: dict[str, Callable[[], RecordDict]] = {
            Phase.BEGIN: self._moments,
            Phase.VALUES: self._statistics,
            Phase.LOSSES: self._losses,
            Phase.GRADIENTS: self._gradients,
        }
        content = answers[self.message.metadata.message_type]()
        return Message(content, reply_to=self.message)

    def _holder(self) -> Holder:
        question, _ = read_question(self.message.content)
        asked = asked_in(self.config, self.job.round, pooled=False)
        groups = group_by_party(asked, self.config.requests)
        requests = [each for group in groups for each in group.requests]
        return Holder(self.model, requests, self.job.layers, question.settings)

    def _moments(self) -> RecordDict:
        shape = self.model.widths(self.job.layers[0])
        return write_moments({shape: self._holder().moments()})

    def _statistics(self) -> RecordDict:
        question, given = read_question(self.message.content)
        found = self._holder().statistics(question.step, read_net(question, given))
        rows = max(each.count for each in found.values())
        reply = TargetsReply(requests=rows)
        if rows == 0:
            return write_targets_reply(reply)
        pairs = {k: LayerPairs(own.keys, own.residuals) for k, own in found.items()}
        job, dtype = self.job, self.model.dtype
        parts = encode_pairs(pairs, job, seed_of(self.config), dtype)
        return write_contribution(reply, parts, job.round)

    def _losses(self) -> RecordDict:
        question, given = read_question(self.message.content)
        updates = read_layers(given, self.job.layers)
        return write_losses(self._holder().losses(question.step, updates))

    def _gradients(self) -> RecordDict:
        question, given = read_question(self.message.content)
        weights = read_layers(given, self.job.layers)
        tensors = {k: v for k, v in given.items() if not k.isdecimal()}
        net = read_net(question, tensors)
        return write_gradients(self._holder().gradients(question.step, net, weights))
