"""The artefact: what the generator is, how it is built and how it is run. No Ray, MLflow, HTTP or argv here."""
