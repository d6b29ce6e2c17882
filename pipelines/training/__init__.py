"""Training with Ray Train and search with Ray Tune."""
