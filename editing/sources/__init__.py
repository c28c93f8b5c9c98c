"""Where the model that comes with the system lies, and the files next to a model."""
