"""Results of `sat2map bench`, and their Markdown tables."""

from pydantic import computed_field

from model.spec import Frozen

PLAIN = "tf2onnx fp32"
"""Name of the model file that the others are compared with."""
REFERENCE = "reference"
"""Provider of a reference command."""


class StepSpeed(Frozen):
    """Speed of the bare training step at one batch size, and of the references, in images/s."""

    batch: int
    images_per_second: float
    references: dict[str, float]
    """Speeds of the references, by command."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float | None:
        """This project's speed divided by that of the fastest reference."""
        return self.images_per_second / max(self.references.values()) if self.references else None


class Overhead(Frozen):
    """Overhead of Ray, MLflow and the data on a step, and the start-up time of a training run."""

    batch: int
    threads: int
    """Threads of the worker, and of the bare step."""
    bare_seconds: float
    inside_seconds: float
    """Seconds per step inside Ray and MLflow."""
    first_step_seconds: float
    """Seconds from the command to the end of the first step, which includes tracing."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cost(self) -> float:
        """Relative increase of the time per step."""
        return self.inside_seconds / self.bare_seconds - 1


class Scaling(Frozen):
    """Times per step of one worker and of two, each with one thread and the same batch per worker."""

    batch_per_worker: int
    one_seconds: float
    two_seconds: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def efficiency(self) -> float:
        """Ratio of the times; 1 if two workers do twice the work in the same time."""
        return self.one_seconds / self.two_seconds


class TrainingBench(Frozen):
    """Medians measured by `sat2map bench training`."""

    machine: str
    versions: dict[str, str]
    precision: str
    width: int
    rounds: int
    steps_timed: int
    step: tuple[StepSpeed, ...] = ()
    inside: tuple[Overhead, ...] = ()
    scaling: Scaling | None = None


class DrawingSpeed(Frozen):
    """One way of running the generator, with its images/s at each batch size."""

    name: str
    provider: str
    """An execution provider of onnxruntime, TensorFlow, or REFERENCE."""
    images_per_second: dict[int, float]


class EndToEnd(Frozen):
    """Speed of `score` on a folder of JPEGs or on a scene, and of the bare session that it uses."""

    images: int
    """Photos in the folder, or tiles of the scene."""
    batch: int
    """Batch size of both."""
    variant: str
    provider: str
    bare_per_second: float
    scored_per_second: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        """The speed of `score` divided by that of the bare session."""
        return self.scored_per_second / self.bare_per_second


class InferenceBench(Frozen):
    """Medians measured by `sat2map bench inference`."""

    machine: str
    versions: dict[str, str]
    width: int
    side: int
    rounds: int
    seconds: float
    lines: tuple[DrawingSpeed, ...] = ()
    folder: EndToEnd | None = None
    scene: EndToEnd | None = None
    start_seconds: float | None = None
    """Seconds from the command to the first map."""


def inference_table(result: InferenceBench) -> str:
    """Format the results as Markdown; ratios are relative to tf2onnx's plain file on onnxruntime's CPU provider."""
    lines = [
        f"{result.machine}; {_join(result.versions)}; width {result.width}, {result.side}x{result.side}; medians of "
        f"{result.rounds} interleaved rounds of {result.seconds:g} s.",
        "",
    ]
    if result.lines:
        batches = list(result.lines[0].images_per_second)
        [plain] = [line for line in result.lines if line.name == PLAIN]
        head = ["model", "runs on", *(f"images/s at batch {batch}" for batch in batches)]
        rows = [
            [
                f"`{line.name}`" if line.provider == REFERENCE else line.name,
                line.provider.removesuffix("ExecutionProvider"),
                *(
                    f"{speed:.1f} ({speed / plain.images_per_second[batch]:.2f} x)"
                    for batch, speed in line.images_per_second.items()
                ),
            ]
            for line in sorted(result.lines, key=lambda line: min(line.images_per_second.values()))
        ]
        lines += _table(head, rows)
    scored = [("photos in a folder", result.folder), ("tiles of a scene", result.scene)]
    if rows := [_scored(images, speeds) for images, speeds in scored if speeds]:
        lines += _table(["images", "drawn by", "batch", "bare session", "`score`", "share"], rows)
    if result.start_seconds:
        lines += _table(["command to first map"], [[f"{result.start_seconds:.2f} s"]])
    return "\n".join(lines)


def training_table(result: TrainingBench) -> str:
    """Format the results as Markdown."""
    lines = [
        f"{result.machine}; {_join(result.versions)}; width {result.width}, {result.precision}; medians of "
        f"{result.rounds} interleaved rounds of {result.steps_timed} steps.",
        "",
    ]
    if result.step:
        lines += _step_table(result.step)
    if result.inside:
        head = ["batch", "threads", "bare step", "inside Ray and MLflow", "cost", "command to first step"]
        rows = [
            [
                str(inside.batch),
                str(inside.threads),
                f"{inside.bare_seconds:.3f} s",
                f"{inside.inside_seconds:.3f} s",
                f"{inside.cost:+.1%}",
                f"{inside.first_step_seconds:.1f} s",
            ]
            for inside in result.inside
        ]
        lines += _table(head, rows)
    if scaling := result.scaling:
        head = ["batch per worker", "1 worker, 1 thread", "2 workers, 1 thread each", "efficiency"]
        row = [f"{scaling.one_seconds:.2f} s", f"{scaling.two_seconds:.2f} s", f"{scaling.efficiency:.2f}"]
        lines += _table(head, [[str(scaling.batch_per_worker), *row]])
    return "\n".join(lines)


def _step_table(step: tuple[StepSpeed, ...]) -> list[str]:
    commands = list(step[0].references)
    names = [f"reference {number}" for number in range(1, len(commands) + 1)]
    legend = [f"{name.capitalize()}: `{command}`  " for name, command in zip(names, commands, strict=True)]
    head = ["images/s at batch", "sat2map", *names, *(["ratio to the fastest"] if names else [])]
    rows = [
        [
            str(row.batch),
            f"{row.images_per_second:.2f}",
            *(f"{row.references[command]:.2f}" for command in commands),
            *([f"**{row.ratio:.2f}**"] if row.ratio else []),
        ]
        for row in step
    ]
    return [*legend, "", *_table(head, rows)]


def _scored(images: str, speeds: EndToEnd) -> list[str]:
    return [
        f"{speeds.images} {images}",
        f"{speeds.variant}, {speeds.provider.removesuffix('ExecutionProvider')}",
        str(speeds.batch),
        f"{speeds.bare_per_second:.1f} images/s",
        f"{speeds.scored_per_second:.1f} images/s",
        f"{speeds.share:.2f}",
    ]


def _join(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {number}" for package, number in versions.items())


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]
