"""The benchmarks: bench training and bench inference."""

from typing import Annotated

import typer

from pipelines.cli.options import Config, Settings, load
from pipelines.cli.verbs import Group, Result, Verbs

AlwaysJson = Annotated[bool, typer.Option("--json", hidden=True, help="Has no effect: the result is always JSON.")]

app = Verbs(cls=Group, no_args_is_help=True, help="Measure the speed of this machine.")


@app.command("training")
def bench_training(
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="step, inside (Ray and MLflow) or scaling (two workers); repeatable; by default all.",
        ),
    ] = None,
    batches: Annotated[
        list[int] | None,
        typer.Option(
            "--batch", min=1, metavar="N", help="Batch size of the bare step; repeatable; by default 1, 4 and 16."
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Reference command that prints JSON with images_per_second; {batch} stands for the batch size, and "
            "{precision} for float32 or mixed_bfloat16; repeatable.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; every measurement is repeated in each.")] = 3,
    steps: Annotated[int, typer.Option(min=2, metavar="N", help="Steps in each round.")] = 8,
    config: Config = "default",
    settings: Settings = None,
    as_json: AlwaysJson = True,
) -> Result:
    """Time training in the precision that this machine trains in; print JSON, and write a table to WORKSPACE/bench."""
    run_config = load(config, settings)
    from pipelines.benchmarks import training_bench

    found = training_bench.training(
        run_config, parts=parts, batches=batches or [1, 4, 16], against=against or [], rounds=rounds, steps=steps
    )
    return Result(found, lambda: None, as_json)


@app.command("inference")
def bench_inference(
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="session, score (a folder of JPEGs), scene (a GeoTIFF) or start; repeatable; by default all.",
        ),
    ] = None,
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", min=1, metavar="N", help="Batch size of a session; repeatable; by default 1 and 8."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Reference command that prints JSON with images_per_second; {batch} stands for the batch size, "
            "{model} for the plain ONNX file; repeatable.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; every measurement is repeated in each.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.01, metavar="N", help="Duration of each measurement in a round.")] = 5,
    photos: Annotated[int, typer.Option(min=8, metavar="N", help="Photos in the folder of the part score.")] = 400,
    config: Config = "default",
    settings: Settings = None,
    as_json: AlwaysJson = True,
) -> Result:
    """Time drawing; print JSON, and write it with a table to WORKSPACE/bench."""
    run_config = load(config, settings)
    from pipelines.benchmarks import inference_bench

    found = inference_bench.inference(
        run_config,
        parts=parts,
        batches=batches or [1, 8],
        against=against or [],
        rounds=rounds,
        seconds=seconds,
        photos=photos,
    )
    return Result(found, lambda: None, as_json)
