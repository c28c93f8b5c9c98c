"""Steps after the solve, before an update is written."""
