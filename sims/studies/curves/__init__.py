"""Studies that draw a score against a number, a line for each merge."""
