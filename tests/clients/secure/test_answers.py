"""A node that answers under masks alone."""

from collections.abc import Callable

import pytest
from flwr.serverapp.exception import AggregationError

from tests.federation import Federation


@pytest.mark.parametrize("masked", [True, False])
def test_a_node_that_wants_masks_sends_nothing_without(
    federate: Callable[..., Federation], masked: bool
) -> None:
    """Whatever the server's settings say; it gives the reason by class."""
    wants = {party: {"require-secure-sum": "true"} for party in range(3)}
    federation = federate(node_configs=wants, privacy={"secure_sum": masked})
    if masked:
        federation.run()
        return
    with pytest.raises(AggregationError, match="a sum that it refuses"):
        federation.run()
    replies = [m for m in federation.messages if m.metadata.reply_to_message_id]
    assert len(replies) >= 3
    for reply in replies:
        assert not reply.content.array_records
        assert not reply.content.metric_records
