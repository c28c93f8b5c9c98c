"""What a party adds to secure sums, kept so that it can be taken back later.

A round has a folder, and each sum, layer and party a file, which a later attempt at the
round replaces: the file of the last one has the digest of the sum that counted. Rows
are under a rotation, so a file that is handed over tells what a plain sum would.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from editing.algebra.encodings import encode
from editing.algebra.statistics import LayerStatistics
from editing.algebra.statistics_files import LAYER, PARTY, SUM, save_statistics
from editing.files.atomic import make_private
from editing.memit.pipeline import LayerPairs
from strategies.secure.keys import Part, context, derive
from strategies.secure.records import MaskedRequest

SEED_BYTES = 7


@dataclass(frozen=True, slots=True)
class OwnStatistics:
    """The files of one party and one part of the run.

    Attributes:
        folder: Of that part.
        party: The party's number.
        seed: Draws the rotations of a simulation; the system does if None.
    """

    folder: Path
    party: int
    seed: int | None = None

    def keep(
        self,
        request: MaskedRequest,
        layer: int,
        widths: tuple[int, int],
        pairs: LayerPairs | None,
    ) -> None:
        """Write what was added for one layer.

        Args:
            request: Names the sum.
            layer: The layer.
            widths: ``(d_out, d_in)`` of it.
            pairs: What was added; None without an edit, which is kept too.
        """
        part = self._turn(request, layer, widths, pairs)
        folder = self.folder / f"round_{request.session.round:03d}"
        make_private(folder, close=False)
        asked = request.sum.replace(" ", "_")
        name = f"{asked}.layer_{layer}.party_{self.party}.safetensors"
        whose = {LAYER: str(layer), PARTY: str(self.party)}
        labels = {SUM: request.digest, **whose}
        save_statistics(part, folder / name, labels)

    def _turn(
        self,
        request: MaskedRequest,
        layer: int,
        widths: tuple[int, int],
        pairs: LayerPairs | None,
    ) -> LayerStatistics:
        d_out, d_in = widths
        if pairs is None:
            none = torch.zeros(0, d_in + d_out, dtype=torch.float64)
            return LayerStatistics(none[:, :d_in], none[:, d_in:], 0)
        keys, residuals = pairs.keys.cpu(), pairs.residuals.cpu()
        named = (request.session.label, request.session.round, request.sum, layer)
        turned = encode(keys, residuals, "factors", self._generator(*named))
        rows, lacks = turned.tensors["keys"], turned.tensors["residuals"]
        return LayerStatistics.of_pairs(rows, lacks, turned.count)

    def _generator(self, *named: Part) -> torch.Generator | None:
        if self.seed is None:
            return None
        drawn = derive(str(self.seed).encode(), context("kept", self.party, *named))
        number = int.from_bytes(drawn[:SEED_BYTES], "big")
        return torch.Generator().manual_seed(number)
