"""The complete flow: prepare, train, export, evaluate, register."""

from collections.abc import Mapping
from typing import Any

from model.io.progress import stage
from model.spec import Frozen
from pipelines import start as starting
from pipelines.config.schema import RunConfig
from pipelines.config.training_settings import length_text
from pipelines.data.prepare import prepare
from pipelines.data.prepared import check_source, locate, settle
from pipelines.evaluation.evaluate import evaluate
from pipelines.export.export import to_bundle
from pipelines.metrics.scores import Scores
from pipelines.registry.register import RegisteredVersion, register
from pipelines.run_folder import RunFolder
from pipelines.run_record import RunRecord
from pipelines.tracking import mlflow_server
from pipelines.training.length import own_length
from pipelines.training.train import fit


class FlowResult(Frozen):
    """Result of the complete flow."""

    record: RunRecord
    scores: Scores
    version: RegisteredVersion


def run(config: RunConfig, given: Mapping[str, Any] | None = None) -> tuple[RunFolder, FlowResult]:
    """Run all steps, from pairs to a registered model; each writes its results to the workspace.

    Args:
        config: The settings.
        given: What was set on top of the shipped configuration; None if no others are to be chosen for the pairs.
    """
    config = locate(config)
    check_source(config)
    mlflow_server.connect()
    with stage(f"Preparing pairs of {config.data.source}"):
        pairs = prepare(config)
    config = settle(config, pairs, given)
    start = starting.find(config, pairs)
    with stage(f"Training on {len(pairs.train)} pairs for {length_text(*own_length(config.training))}"):
        folder = fit(config, pairs, start)
    with stage("Exporting to ONNX"):
        to_bundle(folder, config.export)
    with stage(f"Evaluating on {len(pairs.val)} held-out pairs"):
        scores = evaluate(folder, config.evaluation)
    with stage("Registering the model"):
        version = register(folder)
    return folder, FlowResult(record=folder.record(), scores=scores, version=version)
