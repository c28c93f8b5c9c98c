"""How a run is watched: events, status, logs, TensorBoard, MLflow, W&B."""
