"""Values by a hypernetwork that every machine has a copy of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from editing.answers.pairs import AnswerPairs
from editing.answers.rule import AnswerRule, Given
from editing.answers.standardised import StandardisedRule
from editing.base.errors import InputError
from editing.malmen.files import FILE, read_hypernetwork
from editing.malmen.hypernetwork import Hypernetwork, HypernetworkError, check_fit
from editing.sources.embedded import EMBEDDED, resolve_source

SETTING = "editor.hypernetwork"


class HypernetworkRule(AnswerRule):
    """Make values by `editing.malmen.hypernetwork.Hypernetwork.values`.

    The hypernetwork does not travel. What a run has of it is its digest, which each
    machine compares with that of its own copy.

    Attributes:
        source: A file, or ``embedded`` for the one in the model's folder.
        digest: SHA-256 of what it computes; empty until `complete` reads it.
        ridges: ``e^λ`` of each edited layer, by the layer's number.
    """

    kind: Literal["hypernetwork"] = "hypernetwork"
    source: str = EMBEDDED
    digest: str = ""
    ridges: tuple[tuple[int, PositiveFloat], ...] = ()

    @property
    def files(self) -> Mapping[str, str]:
        """The digest of the hypernetwork."""
        return {"hypernetwork": self.digest}

    def read_files(
        self, model_path: str, widths: Mapping[int, tuple[int, int]]
    ) -> dict[str, object]:
        """Read digest and ridges.

        A file that cannot be read, or is for other layers, is a `HypernetworkError`.
        """
        net = self._open(Given(model_path=model_path), widths)
        ridges = tuple((layer, net.prior_weight(layer)) for layer in net.shape.layers)
        return {"digest": net.digest(), "ridges": ridges}

    def values(
        self, pairs: Mapping[int, AnswerPairs], given: Given
    ) -> dict[int, Float[Tensor, "_ _"]]:
        """Compute ``v`` of each row, by layer, in float64 whatever the file is in.

        Raises:
            HypernetworkError: If this machine's copy is another, or cannot be read.
        """
        widths = {k: (p.gradients.shape[1], p.keys.shape[1]) for k, p in pairs.items()}
        net = self._open(given, widths)
        own = net.digest()
        if own != self.digest:
            raise HypernetworkError(
                f"{self._find(given)}: this is the hypernetwork {own[:12]}…, and the "
                f"run edits with {self.digest[:12]}…. Give every node the server's "
                "file, with `hypernetwork-path` in the node config or with "
                f"`{SETTING}`."
            )
        wide = net.to(torch.float64)
        with torch.no_grad():
            return {layer: wide.values(layer, each) for layer, each in pairs.items()}

    def weight(self, layer: int) -> float:
        """Return ``e^λ`` of a layer."""
        return dict(self.ridges)[layer]

    def _open(
        self, given: Given, widths: Mapping[int, tuple[int, int]]
    ) -> Hypernetwork:
        path = self._find(given)
        net = read_hypernetwork(path)
        check_fit(net.shape, widths, str(path))
        return net

    def _find(self, given: Given) -> Path:
        """Find the file on this machine.

        Raises:
            HypernetworkError: If the model's folder has none.
        """
        source = given.hypernetwork or self.source
        try:
            return resolve_source(source, given.model_path, FILE, SETTING)
        except InputError as error:
            raise HypernetworkError(str(error)) from None


AnyRule = Annotated[StandardisedRule | HypernetworkRule, Field(discriminator="kind")]
"""Every rule that a job can carry."""


def complete(
    rule: AnyRule, model_path: str, widths: Mapping[int, tuple[int, int]]
) -> AnyRule:
    """Return a rule with what a run needs of files; see `AnswerRule.read_files`."""
    return rule.model_copy(update=rule.read_files(model_path, widths))
