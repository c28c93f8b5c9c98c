"""MEMIT's hyperparameters: settings, files of other editors, presets, choice."""
