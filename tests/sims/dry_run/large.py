"""The figures of docs/seven_billion.md, from the estimate."""

from sims.sizes.estimate import Estimate, EstimateOrder
from sims.sizes.shapes import read_shape
from sims.sizes.tables import count_operations, write_seconds, write_size

MODELS = {
    "GPT2-XL": "gpt2-xl",
    "GPT-J": "gpt-j-6b",
    "Llama-3-8B": "llama-3-8b",
    "Qwen2.5-7B": "qwen2.5-7b",
}
PARTIES = 10
EDITS = (2_000, 5_000, 10_000)


def row_of(name: str, edits: int) -> str:
    """Write the row of a model and a number of edits, over ten parties."""
    order = EstimateOrder(parties=PARTIES, requests=edits // PARTIES)
    found = Estimate(read_shape(MODELS[name]), order)
    cells = [
        name,
        f"{edits:,}",
        write_size(found.server_memory),
        write_size(found.server_memory_each),
        write_size(found.node_memory),
        write_size(found.round_up),
        write_size(found.round_down),
        write_size(found.server_disk),
        f"{PARTIES * count_operations(found) / 1e15:.3g}",
        write_seconds(found.round_seconds),
    ]
    return f"| {' | '.join(cells)} |"
