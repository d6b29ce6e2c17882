"""The verbs that measure how fast this machine is."""

from typing import Annotated

import typer

from pipelines.cli.options import Config, Settings, load, print_result

app = typer.Typer(no_args_is_help=True, help="Measure how fast this machine is.")


@app.command("training")
def bench_training(
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part", help="step, inside (Ray and MLflow) or scaling (two workers); repeatable. [default: all]"
        ),
    ] = None,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Of the bare step; repeatable. [default: 1, 4, 16]")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="A reference that prints JSON with images_per_second; {batch} is the batch size; repeatable.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed, in turn.")] = 3,
    steps: Annotated[int, typer.Option(min=2, help="Steps that are timed each time.")] = 8,
    config: Config = "default",
    settings: Settings = None,
) -> None:
    """Time training on this machine, in bfloat16; print JSON, and leave it with a table in WORKSPACE/bench."""
    settings_read = load(config, ["training.precision=mixed_bfloat16", *(settings or [])])
    from pipelines.benchmarks import training_bench

    found = training_bench.training(
        settings_read, parts=parts, batches=batches or [1, 4, 16], against=against or [], rounds=rounds, steps=steps
    )
    print_result(True, found, lambda: None)


@app.command("inference")
def bench_inference(
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part", help="session, score (a folder of JPEGs), scene (a GeoTIFF) or start; repeatable. [default: all]"
        ),
    ] = None,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Of a session; repeatable. [default: 1, 8]")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Another way to draw, that prints JSON with images_per_second; {batch} is the batch size, {model} the "
            "plain ONNX file; repeatable.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each is timed each time.")] = 5,
    photos: Annotated[int, typer.Option(min=8, help="In the folder that is scored.")] = 400,
    config: Config = "default",
    settings: Settings = None,
) -> None:
    """Time drawing on this machine; print JSON, and leave it with a table in WORKSPACE/bench."""
    settings_read = load(config, settings)
    from pipelines.benchmarks import inference_bench

    found = inference_bench.inference(
        settings_read,
        parts=parts,
        batches=batches or [1, 8],
        against=against or [],
        rounds=rounds,
        seconds=seconds,
        photos=photos,
    )
    print_result(True, found, lambda: None)
