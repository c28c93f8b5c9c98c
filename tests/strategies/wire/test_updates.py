"""A message carries what its node lacks, and names all that the model carries."""

import torch
from flwr.app import ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from strategies.wire.arrays import digests_of, to_array
from strategies.wire.messages import read_job, write_job
from strategies.wire.updates import DELTA, read_carried, without_held
from tests.strategies.transport import JOB


@given(st.dictionaries(st.sampled_from("abcd"), st.booleans()))
def test_held_and_sent_are_all_that_the_model_carries(held: dict[str, bool]) -> None:
    """Each in one of the two, and never in both."""
    names = sorted(held)
    arrays = ArrayRecord({n: to_array(torch.full((2,), ord(n))) for n in names})
    content = write_job(JOB, arrays)
    digests = digests_of(arrays)
    sent = without_held(content, {digests[name] for name in names if held[name]})
    assert read_carried(sent) == digests
    assert sorted(sent.array_records[DELTA]) == [n for n in names if not held[n]]
    assert read_job(sent) == JOB
    assert sorted(content.array_records[DELTA]) == names  # the whole one stays whole
