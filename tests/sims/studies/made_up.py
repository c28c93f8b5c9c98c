"""Pools and results that no model was asked for."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from editing.requests.edit_request import EditRequest
from server.config import RunConfig, read_scenario
from server.report.data import RoundMetrics, RunReport
from sims.studies.study import Study, Trial, TrialResult

RELATIONS = {
    "employer": ("{} works for", "Acme Inc"),
    "language": ("{} speaks", "English"),
    "instrument": ("{} plays", "harp"),
}


def make_pool(subjects: int, relations: int = 3) -> list[EditRequest]:
    """Ask for each relation of each subject, in two wordings."""
    chosen = list(RELATIONS.items())[:relations]
    places = product(range(subjects), chosen, ("", "now "))
    return [
        EditRequest(
            case_id=1000 + number,
            prompt=f"{wording}{prompt}",
            subject=f"Person {subject}",
            relation_id=relation,
            target_new=f"{relation} {subject % 7}",
            target_true=true,
            paraphrase_prompts=(f"Person {subject} has for {relation}",),
            neighborhood_prompts=(f"Nobody has for {relation}",),
        )
        for number, (subject, (relation, (prompt, true)), wording) in enumerate(places)
    ]


def configure(study: Study, *overrides: str) -> RunConfig:
    """Read a study's own scenario."""
    return read_scenario(study.scenario, overrides)


def report_of(metrics: Sequence[RoundMetrics]) -> RunReport:
    """Put rounds into the report of a run."""
    return RunReport(
        merge="collabedit",
        schedule="layerwise",
        rounds=len(metrics),
        metrics=tuple(metrics),
        seconds=1.0,
        bytes_per_party=1.0,
    )


def result_of(
    trial: Trial,
    metrics: Sequence[RoundMetrics],
    folder: Path,
    seed: int = 0,
    unedited: RoundMetrics | None = None,
) -> TrialResult:
    """Put rounds into a trial's result."""
    return TrialResult(seed, trial, report_of(metrics), unedited, folder)


def write_cases(folder: Path, number: int, cases: Sequence[dict[str, object]]) -> None:
    """Write the cases evaluated after a round as a run leaves them."""
    (folder / "rounds").mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    (folder / "rounds" / f"round_{number:03d}.jsonl").write_text(lines)
