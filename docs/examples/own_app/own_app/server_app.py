"""The server of the app: collaborative editing, and a file of its own at the end."""

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from editing.algebra.deltas import save_delta
from server.merging import strategy_from_config

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Edit, then write the averages of each round and the update."""
    settings = dict(context.run_config)
    folder = Path(str(settings.pop("own.folder", "own_results")))
    strategy = strategy_from_config(settings, grid)
    rounds = int(settings.get("run.rounds", 1))
    result = strategy.start(grid, ArrayRecord(), num_rounds=rounds)
    folder.mkdir(parents=True)
    averages = {
        n: dict(found) for n, found in result.evaluate_metrics_clientapp.items()
    }
    (folder / "averages.json").write_text(json.dumps(averages, indent=1))
    save_delta(strategy.delta, folder / "delta.safetensors", {})
