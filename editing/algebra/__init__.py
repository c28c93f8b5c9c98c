"""The algebra of edits: statistics, their sums, solvers, deltas. Torch alone."""
