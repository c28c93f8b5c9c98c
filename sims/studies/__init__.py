"""Studies: what a row of runs shows, drawn and stated in numbers."""
