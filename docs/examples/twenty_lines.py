"""Edit on one machine, then together, and compare: twenty lines of `sims.api`."""

import sys
from pathlib import Path

from sims import api

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "twenty_lines")

# One machine: edit, evaluate, save.
machine = api.Machine.load()
requests = machine.requests()[:9]
update = machine.edit(requests)
print(machine.evaluate(requests), machine.evaluate(requests, update), sep="\n\n")
machine.save(update, folder / "edited_model")

# Three parties with requests of their own, by two merges and by `global`.
parties = [requests[:4], requests[4:7], requests[7:]]
merges = ["collabedit", "simple-average", "global"]
results = api.federate(requests=parties, merges=merges, folder=folder / "results")
print(results.merges[["score", "difference_to_global", "bytes_per_party"]])
