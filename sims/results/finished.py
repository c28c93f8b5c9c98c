"""A run's results, read so that it can be computed with again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from clients.own_requests import find_shares
from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from server.kept_statistics import COVARIANCE
from server.preparation import Preparation, prepare
from server.report.data import RunReport
from sims.console import hush_libraries
from sims.results.choice import choose_run
from strategies.scenario import FEDERATED

CASES = "case_*.json"


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The results of one merge.

    Attributes:
        folder: With its delta and cases.
        config: The settings of the run, with this merge.
        settings: All that determined the run, as its report has it.
        covariance: Where a covariance of the parties' own texts is, if it was kept.
    """

    folder: Path
    config: RunConfig
    settings: Mapping[str, object]
    covariance: Path

    @property
    def simulated(self) -> bool:
        """Whether the parties' cases are here, so that their requests are known."""
        return any(self.folder.glob(CASES))

    def requests(self) -> dict[int, list[EditRequest]]:
        """Return each simulated party's requests of all rounds; none of a deployment's.

        Those that a round left out, known or conflicting ones, are among them.
        """
        config, found = self.config, dict[int, list[EditRequest]]()
        if not self.simulated:
            return found
        shares = find_shares(config.model, config.requests, config.parties)
        for number in range(1, config.run.rounds + 1):
            for party, each in enumerate(shares.in_round(number)):
                found.setdefault(party, []).extend(each.requests)
        return found

    def prepare(self) -> Preparation:
        """Load the run's model and prior.

        Raises:
            InputError: If they are not those of the run any more.
        """
        hush_libraries()
        prepared = prepare(self._config())
        inputs = self.settings.get("inputs")
        known = inputs.get("covariance") if isinstance(inputs, dict) else None
        for name, wanted, found in (
            (
                "model",
                self.settings.get("model_fingerprint"),
                prepared.model.fingerprint,
            ),
            ("covariance", known, prepared.inputs["covariance"]),
        ):
            if wanted != found:
                raise InputError(
                    f"{self.folder}: the run's {name} was {str(wanted)[:12]}…, and now "
                    f"is {found[:12]}…; give back the files that it was run with"
                )
        return prepared

    def _config(self) -> RunConfig:
        """Return the settings, with a covariance that needs no parties."""
        prior = self.config.prior
        if prior.covariance != FEDERATED:
            return self.config
        if not self.covariance.is_file():
            raise InputError(
                f"{self.folder}: the run's covariance was of its parties' own texts, "
                "and is not kept; a run with `output.statistics = true` keeps it"
            )
        kept = prior.model_copy(update={"covariance": str(self.covariance)})
        return self.config.model_copy(update={"prior": kept})


def find_run(path: Path) -> FinishedRun:
    """Find a merge's results by its own folder, or by that of a run with one merge.

    An `InputError` says that there are none, or several.
    """
    return _read(path, *choose_run(path))


def _read(path: Path, above: Path, report: RunReport) -> FinishedRun:
    tables = {k: v for k, v in report.settings.items() if k in RunConfig.model_fields}
    try:
        config = RunConfig.model_validate_json(json.dumps(tables))
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(
            f"{path}: the settings in its report are not of this version "
            f"({'.'.join(map(str, fault['loc']))}: {fault['msg']})"
        ) from None
    return FinishedRun(path, config, report.settings, above / COVARIANCE)
