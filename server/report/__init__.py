"""The report of a run: data, tables, plots and the page."""
