"""Simulations: the embedded world and model, scenarios and the command line."""
