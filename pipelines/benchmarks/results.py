"""What `sat2map bench` has found: numbers, and tables of them."""

from pydantic import computed_field

from model.spec import Frozen

PLAIN = "tf2onnx fp32"
REFERENCE = "reference"


class StepSpeed(Frozen):
    """The bare step at one batch size, in images/s, beside the references."""

    batch: int
    images_per_second: float
    references: dict[str, float]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float | None:
        """Our speed over that of the fastest reference."""
        return self.images_per_second / max(self.references.values()) if self.references else None


class Inside(Frozen):
    """What Ray, MLflow and the data add to a step of so many threads, and how long a training takes to begin."""

    batch: int
    threads: int
    bare_seconds: float
    inside_seconds: float
    first_step_seconds: float
    """From the command to the end of the first step, which traces."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cost(self) -> float:
        """The share that is added."""
        return self.inside_seconds / self.bare_seconds - 1


class Scaling(Frozen):
    """Two workers of one thread each, with the same batch for each, against one."""

    batch_per_worker: int
    one_seconds: float
    two_seconds: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def efficiency(self) -> float:
        """1 if two workers did twice the work in the same time."""
        return self.one_seconds / self.two_seconds


class TrainingBench(Frozen):
    """What `sat2map bench training` has measured: medians."""

    machine: str
    versions: dict[str, str]
    precision: str
    width: int
    rounds: int
    steps_timed: int
    step: tuple[StepSpeed, ...] = ()
    inside: tuple[Inside, ...] = ()
    scaling: Scaling | None = None


class Contender(Frozen):
    """One way of drawing, and its images/s at each batch size."""

    name: str
    provider: str
    """Who runs it: an execution provider of onnxruntime, TensorFlow, or a reference command of its own."""
    images_per_second: dict[int, float]


class EndToEnd(Frozen):
    """`score` on a folder of JPEGs, or on a scene, beside the session that it draws with."""

    images: int
    """Photos of the folder, or tiles of the scene."""
    batch: int
    """Of both."""
    variant: str
    provider: str
    bare_per_second: float
    scored_per_second: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        """What is left of the bare session's speed."""
        return self.scored_per_second / self.bare_per_second


class InferenceBench(Frozen):
    """What `sat2map bench inference` has measured: medians."""

    machine: str
    versions: dict[str, str]
    width: int
    side: int
    rounds: int
    seconds: float
    lines: tuple[Contender, ...] = ()
    folder: EndToEnd | None = None
    scene: EndToEnd | None = None
    start_seconds: float | None = None
    """From the command to the first map."""


def inference_table(result: InferenceBench) -> str:
    """Write what was measured as Markdown; ratios are to the file that tf2onnx makes, on onnxruntime's CPU provider."""
    versions = ", ".join(f"{package} {number}" for package, number in result.versions.items())
    lines = [
        f"{result.machine}; {versions}; width {result.width}, {result.side}x{result.side}; medians of {result.rounds} "
        f"rounds of {result.seconds:g} s, taken in turn.",
        "",
    ]
    if result.lines:
        batches = list(result.lines[0].images_per_second)
        [plain] = [line for line in result.lines if line.name == PLAIN]
        heads = [f"images/s at batch {batch}" for batch in batches]
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
        lines += _rows(["model", "runs on", *heads], rows)
    scored = [("photos in a folder", result.folder), ("tiles of a scene", result.scene)]
    if rows := [_scored(what, found) for what, found in scored if found]:
        lines += _rows(["images", "drawn by", "batch", "bare session", "`score`", "share"], rows)
    if result.start_seconds:
        lines += _rows(["command to first map"], [[f"{result.start_seconds:.2f} s"]])
    return "\n".join(lines)


def _scored(what: str, found: EndToEnd) -> list[str]:
    return [
        f"{found.images} {what}",
        f"{found.variant}, {found.provider.removesuffix('ExecutionProvider')}",
        str(found.batch),
        f"{found.bare_per_second:.1f} images/s",
        f"{found.scored_per_second:.1f} images/s",
        f"{found.share:.2f}",
    ]


def table(result: TrainingBench) -> str:
    """Write what was measured as Markdown."""
    versions = ", ".join(f"{package} {number}" for package, number in result.versions.items())
    lines = [
        f"{result.machine}; {versions}; width {result.width}, {result.precision}; medians of {result.rounds} rounds "
        f"of {result.steps_timed} steps, taken in turn.",
        "",
    ]
    if result.step:
        commands = list(result.step[0].references)
        names = [f"reference {number}" for number in range(1, len(commands) + 1)]
        lines += [f"{name.capitalize()}: `{command}`  " for name, command in zip(names, commands, strict=True)] + [""]
        lines += _rows(
            ["images/s at batch", "ours", *names, *(["ours / the best of them"] if names else [])],
            [
                [str(row.batch), f"{row.images_per_second:.2f}", *(f"{speed:.2f}" for speed in row.references.values())]
                + ([f"**{row.ratio:.2f}**"] if row.ratio else [])
                for row in result.step
            ],
        )
    if result.inside:
        lines += _rows(
            ["batch", "threads", "bare step", "inside Ray and MLflow", "cost", "command to first step"],
            [
                [
                    str(inside.batch),
                    str(inside.threads),
                    f"{inside.bare_seconds:.3f} s",
                    f"{inside.inside_seconds:.3f} s",
                    f"{inside.cost:+.1%}",
                    f"{inside.first_step_seconds:.1f} s",
                ]
                for inside in result.inside
            ],
        )
    if scaling := result.scaling:
        lines += _rows(
            ["batch a worker", "1 worker, 1 thread", "2 workers, 1 thread each", "of twice the speed"],
            [
                [
                    str(scaling.batch_per_worker),
                    f"{scaling.one_seconds:.2f} s",
                    f"{scaling.two_seconds:.2f} s",
                    f"{scaling.efficiency:.2f}",
                ]
            ],
        )
    return "\n".join(lines)


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]
