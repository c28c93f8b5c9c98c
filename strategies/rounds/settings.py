"""The settings of a collaborative edit, in one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from strategies.conflicts.policies import ConflictRules
from strategies.merges.base import Merge
from strategies.rounds.limits import Limits
from strategies.rounds.state import EditedLayer
from strategies.wire.deltas import EncodingDown
from strategies.wire.messages import Job


@dataclass(frozen=True, slots=True)
class EditingSettings:
    """What a collaborative edit is run with.

    Attributes:
        job: What every client receives; the strategy fills in round and layers.
        merge: How the parties' statistics become one delta.
        layers: The edited layers by number, with their priors.
        parties: Nodes to wait for before the first round.
        min_parties: The run stops if fewer parties than this remain.
        dtype: Precision of deltas on the wire; sums are kept in float64.
        encoding_down: Whether updates of low rank travel as two factors.
        evaluate_unedited: Whether parties evaluate the first round's requests before
            any edit, too.
        evaluate_every: After every how many rounds requests are evaluated; they are
            after the last one, too.
        memory_keys: Which keys are remembered: those the round was ``solved`` with, or
            those of the ``edited`` model. Where each layer is an exchange they
            are the same; otherwise the latter cost one more exchange.
        conflicts: How duplicate and conflicting requests are resolved; None if tokens
            are not compared.
        limits: Upper bounds on what an honest party sends.
        secure: Whether the server learns sums alone, for a merge that needs no more.
    """

    job: Job
    merge: Merge
    layers: Mapping[int, EditedLayer]
    parties: int
    min_parties: int = 1
    dtype: torch.dtype = torch.float32
    encoding_down: EncodingDown = "whole"
    evaluate_unedited: bool = False
    evaluate_every: int = 1
    memory_keys: Literal["solved", "edited"] = "solved"
    conflicts: ConflictRules | None = None
    limits: Limits = field(default_factory=Limits)
    secure: bool = False
