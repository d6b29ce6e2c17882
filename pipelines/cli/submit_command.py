"""The verb that sends another to a Ray cluster: submit."""

import sys
from typing import Annotated, Any

import typer

from model.errors import ConfigError
from pipelines.cli.options import load
from pipelines.cluster.signals import STOPPED

app = typer.Typer()

STAY_HERE = {"submit", "bench"}
"""Verbs that no job runs."""


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    context: typer.Context,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="URL",
            help="The cluster's dashboard, http://HEAD:8265.",
            envvar="RAY_API_SERVER_ADDRESS",
            show_envvar=False,
        ),
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- VERB OPTIONS]", help="Any verb as it is typed here; `main`.")
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Print the job's id and leave, without waiting for its end.")
    ] = False,
) -> None:
    """Run a verb on a Ray cluster: ship the code, follow the log, return the job's exit code.

    sat2map submit --address http://HEAD:8265 -- train --set workspace=/SHARED/work --set training.workers=2

    Workspace and pairs must lie on storage that every node sees under the same path, and MLFLOW_TRACKING_URI must name
    an MLflow server that the cluster reaches. The nodes have the packages of requirements.lock. This machine's
    variables for MLflow and for storage (MLFLOW_*, AWS_*, GOOGLE_*, AZURE_*, DATABRICKS_*, KAGGLE_*) go along, out of
    sight of Ray's dashboard and logs.
    """
    verb, *options = words if words and not words[0].startswith("-") else ["main", *(words or [])]
    arguments = _arguments(context, verb, options)
    config = load(arguments.get("config"), arguments.get("settings"))
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
        print(f"\nJob {job.id} goes on without you;\n{job.how_to}", file=sys.stderr)
        code = STOPPED
    sys.exit(code)


def _arguments(context: typer.Context, verb: str, options: list[str]) -> dict[str, Any]:
    """Read the options of a verb that is to run elsewhere; typer tells what is wrong with them."""
    group: Any = context.find_root().command
    verbs = group.commands
    if verb not in verbs or verb in STAY_HERE:
        known = ", ".join(name for name in verbs if name not in STAY_HERE)
        raise ConfigError(f"There is no verb {verb!r} to submit; there are: {known}.")
    parsed: dict[str, Any] = verbs[verb].make_context(f"sat2map {verb}", list(options)).params
    return parsed
