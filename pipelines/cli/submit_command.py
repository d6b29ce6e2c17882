"""The verb submit, which runs another verb on a Ray cluster."""

import sys
from typing import Annotated, Any

import typer

from model.errors import ConfigError
from pipelines.cli.verbs import Described
from pipelines.cluster.signals import STOPPED

app = typer.Typer()

STAY_HERE = {"submit", "bench", "settings"}
"""Verbs that can't run as a job."""


# Its output is the log of the job.
@app.command(cls=Described, context_settings={"allow_interspersed_args": False})
def submit(
    context: typer.Context,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="URL",
            help="Address of the cluster's dashboard, http://HEAD:8265.",
            envvar="RAY_API_SERVER_ADDRESS",
            show_envvar=False,
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VERB OPTIONS]", help="The verb with its options; by default `main`."),
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Print the job's id, and do not wait for its end.")
    ] = False,
) -> None:
    """Run a verb as a job on a Ray cluster, follow its log, and return its exit code.

    sat2map submit --address http://HEAD:8265 -- train --set workspace=/SHARED

    The code is uploaded; the nodes need the packages of requirements.lock. Put the workspace and the pairs on storage
    that every node sees under the same path, and set MLFLOW_TRACKING_URI to an MLflow server that the cluster can
    reach. This machine's variables for MLflow and storage (MLFLOW_*, AWS_*, GOOGLE_*, AZURE_*, DATABRICKS_*, KAGGLE_*)
    are passed on, hidden from Ray's dashboard and logs.
    """
    verb, *options = words if words and not words[0].startswith("-") else ["main", *(words or [])]
    arguments = _arguments(context, verb, options)
    given = arguments.get("config") or None, arguments.get("settings") or []
    from pipelines.config.loading import load, read_each

    # Other verbs add the settings to those that they find in the workspace.
    config = load(*given) if verb in ("main", "prepare") else read_each(*given)
    from pipelines.cluster import jobs

    jobs.check(config, arguments)
    job = jobs.submit(address, [verb, *options], config_file=arguments.get("config") or "")
    if no_follow:
        print(job.id)
        print(job.how_to, file=sys.stderr)
        return
    jobs.report(job)
    try:
        code = jobs.follow(job)
    except KeyboardInterrupt:
        print(f"\nJob {job.id} continues to run;\n{job.how_to}", file=sys.stderr)
        code = STOPPED
    sys.exit(code)


def _arguments(context: typer.Context, verb: str, options: list[str]) -> dict[str, Any]:
    """Parse the options of the verb to submit; typer reports invalid ones."""
    group: Any = context.find_root().command
    verbs = group.commands
    if verb not in verbs or verb in STAY_HERE:
        known = ", ".join(name for name in verbs if name not in STAY_HERE)
        raise ConfigError(f"Can't submit the verb {verb!r}; use one of: {known}.")
    parsed: dict[str, Any] = verbs[verb].make_context(f"sat2map {verb}", list(options)).params
    return parsed
