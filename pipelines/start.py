"""The networks that a training begins with (`training.start_from`): those of a run, a bundle or a registered version.

Painted scenes are a first school: `sample` trains on them first, in a workspace of its own, where a school of the same
settings is found again.
"""

from pathlib import Path

from model.bundle import MANIFEST_FILE, BundleManifest, Lineage, read_manifest
from model.errors import ConfigError, MissingStepError
from model.io.files import sha256
from model.io.progress import stage
from model.spec import Direction, NetworkConfig
from pipelines.config.held_variables import HeldVariables
from pipelines.config.loading import with_settings
from pipelines.config.schema import DataConfig, RunConfig
from pipelines.config.training_settings import NO_START, SAMPLE, TrainingConfig
from pipelines.data.pairs import PairIndex
from pipelines.data.prepare import prepare
from pipelines.registry import pull, references, versions
from pipelines.run_folder import DISCRIMINATOR_FILE, GENERATOR_FILE, RunFolder
from pipelines.tracking import mlflow_server
from pipelines.training.length import school_length
from pipelines.training.messages import StartingNetworks
from pipelines.training.preconditions import check_folders, check_steps
from pipelines.training.train import fit, resume
from pipelines.workspace import Workspace

SCHOOL = "school"
"""Workspace of the trainings on painted scenes, inside of that of the settings."""
NO_PROJECT_RUN = HeldVariables({"MLFLOW_RUN_ID": None})
"""Variable of `mlflow run`, whose run is for the training itself and not for that on painted scenes."""
SHAPING = ("width", "depth", "upsampling")
"""Settings of the network that determine its weights; `norm` does too, but both batch norms have the same weights."""


def find(config: RunConfig, pairs: PairIndex) -> StartingNetworks | None:
    """Return the networks that `training.start_from` names; None if the training begins with random weights.

    Painted scenes are trained on only if the pairs can be trained on after them.

    Raises:
        ConfigError: They are of another width, depth, norm, upsampling or direction than the settings.
        MissingStepError: There is no such run, bundle or version, or its Keras file is missing or another one.
        BundleError: The content of the registry can't be trusted.
        TrackingError: MLflow does not answer.
        Sat2mapError: The training on painted scenes failed, or was stopped.
    """
    source, workspace = config.training.start_from, Workspace(config.workspace)
    if source == NO_START:
        return None
    if source == SAMPLE:
        check_steps(config, pairs)
        check_folders(pairs)
        return _of_school(config)
    if source.startswith(references.SCHEME):
        return _of_version(source, config)
    folder = Path(source).expanduser()
    if (folder / MANIFEST_FILE).is_file():
        return _of_bundle(folder, config)
    if folder.is_dir():
        raise MissingStepError(
            f"{source} is not a bundle ({MANIFEST_FILE} is missing); set training.start_from to a run's id, a bundle's "
            f"folder, {references.FORMS}, {SAMPLE} or {NO_START}."
        )
    return _of_run(workspace.run(source), source, config)


def _of_run(run: RunFolder, source: str, config: RunConfig) -> StartingNetworks:
    record = run.record()
    _check_fits(record.config.network, record.config.data.direction, source, config)
    generator = run.generator_sha256()
    found = run.discriminator if run.discriminator.is_file() else None
    if found is not None and record.discriminator_sha256 not in ("", sha256(found)):
        raise MissingStepError(
            f"{found} is not the discriminator of run {run.run_id}'s last finished training; remove it, or finish the "
            f"training with: {run.command('train', '--resume', run.run_id)}"
        )
    lineage = Lineage(
        source=source,
        run_id=run.run_id,
        generator_sha256=generator,
        discriminator_sha256=sha256(found) if found else "",
    )
    return StartingNetworks(run.generator, found, lineage)


def _of_bundle(folder: Path, config: RunConfig) -> StartingNetworks:
    """Find the Keras files in the bundle's folder, or in that of its run, which is the folder above."""
    manifest = read_manifest(folder)
    _check_fits(manifest.network, manifest.direction, str(folder), config)
    for place in (folder, folder.resolve().parent):
        generator, discriminator = place / GENERATOR_FILE, place / DISCRIMINATOR_FILE
        if generator.is_file() and sha256(generator) == manifest.generator_sha256:
            has_both = discriminator.is_file() and sha256(discriminator) == manifest.discriminator_sha256
            return _named(manifest, str(folder), generator, discriminator if has_both else None)
    raise MissingStepError(
        f"Neither {folder} nor the folder above has the {GENERATOR_FILE} that the bundle was exported from; put it "
        f"there, or set training.start_from to its registered version ({references.FORMS})."
    )


def _of_version(uri: str, config: RunConfig) -> StartingNetworks:
    """Fetch the Keras files of a registered version into the cache."""
    reference = references.parse_uri(uri)
    mlflow_server.connect_to_existing()
    version = versions.find(reference.name, reference.which)
    source = f"models:/{version.name}/{version.number}"
    folder = Workspace(config.workspace).cache / "networks" / version.bundle_sha256
    manifest = pull.fetch_networks(version, folder)
    _check_fits(manifest.network, manifest.direction, source, config)
    discriminator = folder / DISCRIMINATOR_FILE
    return _named(manifest, source, folder / GENERATOR_FILE, discriminator if discriminator.is_file() else None)


def _named(manifest: BundleManifest, source: str, generator: Path, discriminator: Path | None) -> StartingNetworks:
    lineage = Lineage(
        source=source,
        run_id=manifest.run_id,
        generator_sha256=manifest.generator_sha256,
        discriminator_sha256=manifest.discriminator_sha256 if discriminator else "",
    )
    return StartingNetworks(generator, discriminator, lineage)


def _of_school(config: RunConfig) -> StartingNetworks:
    """Train on painted scenes; a school of the same settings is resumed if it was stopped, and used if it has ended."""
    school = _school_settings(config)
    doing = f"painted scenes first, for {school.training.length_text()}"
    for run in Workspace(school.workspace).runs():
        if not run.config_file.is_file() or not _is_same(run.config(), school):
            continue
        if run.unfinished():
            with stage(f"Resuming the training on {doing}"):
                resume(run)
        if run.generator.is_file():
            return _of_run(run, SAMPLE, config)
    with stage(f"Training on {doing}"), NO_PROJECT_RUN.held():
        return _of_run(fit(school, prepare(school)), SAMPLE, config)


def _school_settings(config: RunConfig) -> RunConfig:
    unit, _ = config.training.length
    painted = DataConfig(direction=config.data.direction, sample=config.data.sample)
    return with_settings(
        config,
        {
            "workspace": str(config.workspace / SCHOOL),
            "data": painted.model_dump(mode="json"),
            "evaluation.palette": None,
            "training.start_from": NO_START,
            "training.start_share": TrainingConfig.model_fields["start_share"].default,
            # A discriminator would only learn to recognise painted maps, and make each step slower.
            "training.adversarial_weight": 0,
            f"training.{unit}": school_length(config.training),
        },
    )


def _is_same(before: RunConfig, school: RunConfig) -> bool:
    """Return whether two schools have the same settings; the precision may have been chosen by the hardware."""
    asked = with_settings(school, {"training.precision": before.training.precision})
    same_precision = school.training.precision in ("auto", before.training.precision)
    trained = {"data", "network", "training", "seed"}
    return same_precision and before.model_dump(include=trained) == asked.model_dump(include=trained)


def _check_fits(network: NetworkConfig, direction: Direction, source: str, config: RunConfig) -> None:
    if direction != config.data.direction:
        raise ConfigError(
            f"training.start_from={source} draws {direction.replace('_', ' ')}, and data.direction is "
            f"{config.data.direction}; choose a model of the same direction."
        )
    wanted = {name: getattr(config.network, name) for name in SHAPING}
    found = {name: getattr(network, name) for name in SHAPING}
    if ("instance" in (network.norm, config.network.norm)) and network.norm != config.network.norm:
        wanted["norm"], found["norm"] = config.network.norm, network.norm
    if different := [name for name in wanted if wanted[name] != found[name]]:
        settings = " ".join(f"network.{name}={found[name]}" for name in different)
        others = " ".join(f"network.{name}={wanted[name]}" for name in different)
        raise ConfigError(
            f"training.start_from={source} has {settings}, and the training {others}; weights only fit the same "
            f"network. Set {settings}, or start from another model."
        )
