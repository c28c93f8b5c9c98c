"""Run the trials of a study, keep what is finished, and resume."""
