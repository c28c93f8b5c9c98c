"""Tables of means over seeds, with all that made them: comparisons and papers."""
