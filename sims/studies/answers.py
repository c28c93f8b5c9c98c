"""Generated answers next to teacher-forced ones, for every study alike."""

from collections.abc import Sequence

import pandas as pd

from editing.base.errors import InputError
from editing.evaluation.definitions import find_unlike
from sims.studies.bars import draw_groups
from sims.studies.plots import Panel
from sims.studies.study import Figure, TrialResult

PANELS = (
    Panel("rewrite_token_acc", "Rewrite, teacher-forced, by token"),
    Panel("rewrite_acc", "Rewrite, teacher-forced"),
    Panel("rewrite_generated_contains", "Rewrite, generated, contained"),
    Panel("rewrite_generated_exact", "Rewrite, generated, exact"),
    Panel("paraphrase_acc", "Paraphrase, teacher-forced"),
    Panel("paraphrase_generated_contains", "Paraphrase, generated, contained"),
    Panel("paraphrase_generated_exact", "Paraphrase, generated, exact"),
)
TRIAL = "trial"


def draw_answers(results: Sequence[TrialResult]) -> list[Figure]:
    """Draw what models say of all their edits after each trial's last round.

    There is nothing to draw where no answer was generated.
    """
    rows = [
        {"seed": each.seed, TRIAL: name_trial(each), **figures}
        for each in results
        if (figures := each.report.metrics[-1].all_edits)
    ]
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    shown = [panel for panel in PANELS if panel.column in frame]
    columns = [panel.column for panel in shown]
    numbers = frame[["seed", TRIAL, *columns]]
    return [
        Figure(
            title="Generated answers",
            caption="All edits after the last round, in per cent: with the object's "
            "tokens given one by one (teacher-forced), and with the prompt alone.",
            picture=draw_groups(numbers, TRIAL, shown),
            table=numbers.groupby(TRIAL, sort=False)[columns].mean(),
            numbers=numbers,
        )
    ]


def name_trial(result: TrialResult) -> str:
    """Name a trial by what sets it apart, the same for every seed."""
    labels = [str(value) for value in result.trial.labels.values()]
    return ", ".join(labels) or result.trial.name


def check_alike(results: Sequence[TrialResult]) -> None:
    """Refuse trials of which one column would hold unlike figures.

    Raises:
        InputError: If a metric has several definitions.
    """
    defined = [each.report.define_metrics() for each in results]
    if unlike := sorted(find_unlike(defined)):
        ids = dict.fromkeys(each[unlike[0]] for each in defined if unlike[0] in each)
        raise InputError(
            f"the trials measure `{unlike[0]}` by unlike definitions, "
            f"{' and '.join(ids)}: some were run under another version. Run the "
            "study again in a new folder"
        )
