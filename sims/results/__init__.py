"""Results: evaluation of a delta, case files, averages over runs."""
