"""An observer that writes the metrics of each round for MLflow."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editing.base.errors import InputError
from server.monitoring.events import MergeStarted
from server.monitoring.round_log import RoundLog

DATABASE = "mlflow.db"
"""The file of runs in the folder of the setting."""

EXPERIMENT = "collabedit"
RUN_TAG, MERGE_TAG = "collabedit.run", "collabedit.merge"
PLACE_TAG = "collabedit.place"
BATCH = 1000
"""Numbers that MLflow takes at once."""


class MlflowLog(RoundLog):
    """Writes every number of a round as a metric, in one MLflow run for each merge.

    Runs are kept in a file of SQLite, unless the environment names another place with
    ``MLFLOW_TRACKING_URI``. Nothing else leaves the machine: MLflow's own reports of
    its use are off, unless the environment turns them on.
    """

    def __init__(self, folder: Path, name: str, place: Path | None = None) -> None:
        """Write to `folder`.

        Args:
            folder: Of the database; it is made.
            name: The run's.
            place: Its folder, by which a resumed run is recognised; names may be equal.

        Raises:
            InputError: If MLflow is not installed, or cannot write there.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise InputError(
                "`output.mlflow` wants the package `mlflow`, which is not installed "
                f"({error}); run `pip install mlflow`, or leave the setting out: "
                "events.jsonl holds the same numbers"
            ) from None
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (
            f"sqlite:///{(folder / DATABASE).resolve()}"
        )
        self._name, self._run = name, ""
        whole = str((place or Path(name)).absolute())
        self._place = hashlib.sha256(whole.encode()).hexdigest()
        with _writing():
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment(folder, uri)

    def _find_experiment(self, folder: Path, uri: str) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        local = uri.startswith("sqlite:")
        artifacts = (folder / "artifacts").resolve().as_uri() if local else None
        return str(self._client.create_experiment(EXPERIMENT, artifacts))

    def open(self, event: MergeStarted) -> None:
        """Start a run of MLflow's, with the rounds that an earlier process completed.

        An earlier one of this merge that has not ended well is deleted; MLflow keeps
        deleted runs until ``mlflow gc``.
        """
        own = {PLACE_TAG: self._place, MERGE_TAG: event.merge}
        tags = {RUN_TAG: self._name, **own}
        with _writing():
            named = " and ".join(f"tags.`{key}` = '{own[key]}'" for key in own)
            earlier = self._client.search_runs(
                [self._experiment], f"{named} and attributes.status != 'FINISHED'"
            )
            title = f"{self._name}, {event.merge}"
            run = self._client.create_run(self._experiment, run_name=title, tags=tags)
            self._run = run.info.run_id
            if earlier:
                self._log(self._completed(earlier[0], event.completed))
            for each in earlier:
                self._client.delete_run(each.info.run_id)

    def _completed(self, run: Any, rounds: int) -> list[Any]:  # noqa: ANN401
        if not rounds:
            return []
        return [
            each
            for name in run.data.metrics
            for each in self._client.get_metric_history(run.info.run_id, name)
            if each.step <= rounds
        ]

    def write(self, numbers: Mapping[str, float], number: int) -> None:
        """Write metrics, the round as their step."""
        from mlflow.entities import Metric

        if not self._run:
            return
        now = int(time.time() * 1000)
        with _writing():
            self._log([Metric(n, value, now, number) for n, value in numbers.items()])

    def _log(self, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), BATCH):
            part = metrics[start : start + BATCH]
            self._client.log_batch(self._run, metrics=part)

    def close(self, *, failed: bool) -> None:
        """End MLflow's run as ours ended."""
        if self._run:
            status = "FAILED" if failed else "FINISHED"
            with _writing():
                self._client.set_terminated(self._run, status)
            self._run = ""


@contextmanager
def _writing() -> Iterator[None]:
    """Turn an error of MLflow's into one of its file, as observers raise it."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise OSError(0, f"MLflow: {error.message}") from None
