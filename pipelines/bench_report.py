"""What `sat2map bench training` has found: numbers, and a table of them."""

from pydantic import computed_field

from model.spec import Frozen


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
    """What Ray, MLflow and the data add to a step, and how long a training takes to begin."""

    batch: int
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
    inside: Inside | None = None
    scaling: Scaling | None = None


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
    if inside := result.inside:
        lines += _rows(
            ["batch", "bare step", "inside Ray and MLflow", "cost", "command to first step"],
            [
                [
                    str(inside.batch),
                    f"{inside.bare_seconds:.3f} s",
                    f"{inside.inside_seconds:.3f} s",
                    f"{inside.cost:+.1%}",
                    f"{inside.first_step_seconds:.1f} s",
                ]
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
