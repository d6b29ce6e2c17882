"""What a run records: MLflow runs, the loss curve, and delivery that survives an outage."""
