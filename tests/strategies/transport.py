"""A job, and the way that a message takes over the wire."""

from collections.abc import Mapping

from flwr.app import Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto

from editing.hyperparameters.config import Plan
from sims.runs.in_process import InProcessGrid
from strategies.wire.messages import Job, ModelIdentity, Phase
from strategies.wire.metrics import EvaluationSums, decode_metrics
from tests.tiny import PARAMETERS, TEMPLATES

OURS = ModelIdentity(weights="w", tokenizer="t")
PLAN = Plan(parameters=PARAMETERS, schedule="layerwise", templates=TEMPLATES)
JOB = Job(identity=OURS, plan=PLAN, label="ties", round=2, before="b", layers=(1, 3))


def over_the_wire(content: RecordDict) -> Message:
    """Send a message as Flower does: as bytes."""
    InProcessGrid({}, lambda message, _: message)  # a message needs a run to belong to
    message = Message(content, dst_node_id=5, message_type=Phase.TARGETS.value)
    sent = message_to_proto(message).SerializeToString()
    return message_from_proto(type(message_to_proto(message)).FromString(sent))


def write_numbers(numbers: Mapping[str, float]) -> RecordDict:
    """Pack any numbers as metrics."""
    return RecordDict({"metrics": MetricRecord({**numbers})})


def sums_in(record: MetricRecord) -> EvaluationSums:
    """Read the sums among the metrics of a result."""
    return decode_metrics(
        MetricRecord({k: v for k, v in record.items() if k.startswith("round.")})
    )
