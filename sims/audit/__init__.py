"""What observers of a run can tell about guessed requests."""
