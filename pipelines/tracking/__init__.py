"""Records of runs: MLflow, the loss curve, and an outbox that survives an outage."""
