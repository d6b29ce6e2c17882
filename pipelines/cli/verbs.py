"""Verbs of the command line: their help fits the terminal, and their stdout holds nothing but the result."""

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from pipelines.cluster.job_log import marked_result

if TYPE_CHECKING:
    from pydantic import BaseModel

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Result:
    """The result of a verb, and how it is printed.

    Attributes:
        value: The result, printed as JSON if `as_json` is set.
        print_summary: Prints the result for people.
        as_json: Whether --json was given.
        exit_code: Exit code of the command.
    """

    value: "BaseModel"
    print_summary: Callable[[], None]
    as_json: bool
    exit_code: int = 0


class _Help:
    """Help whose paragraphs the terminal wraps, and that shows no type for flags and arguments.

    An option that takes one value can't be given twice.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:  # noqa: ANN401 - those of typer's commands
        """Join the lines of each paragraph of the help."""
        super().__init__(name=name, **options | {"help": paragraphs(options.get("help") or "")})  # type: ignore[call-arg]

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - typer has no public name for it
        """Return the options and arguments."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument) or (isinstance(param, TyperOption) and param.is_flag):
                param.display_type_rich = _no_type  # type: ignore[method-assign]
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse the command line."""
        if not ctx.resilient_parsing:
            given = self.make_parser(ctx).parse_args(args=[*args])[2]  # type: ignore[attr-defined]
            for param in given:
                if isinstance(param, TyperOption) and not (param.is_flag or param.multiple) and given.count(param) > 1:
                    ctx.fail(f"{max(param.opts, key=len)} is given {given.count(param)} times; give it once.")
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest


class Described(_Help, TyperCommand):
    """A command with such help, and with a hint if an unknown option looks like a setting."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse the command line."""
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            unknown: str = getattr(error, "option_name", "")
            if hasattr(error, "possibilities"):
                error.message += _hint(unknown.lstrip("-"), similar=bool(error.possibilities))
            raise


class Group(_Help, TyperGroup):
    """A group of commands with such help."""


class Verb(Described):
    """A command that returns its result, which is all that is printed to stdout."""

    def invoke(self, ctx: Any) -> int:  # noqa: ANN401
        """Run the verb, print its result, and return the exit code."""
        with stdout_to_stderr():
            result: Result = super().invoke(ctx)
        with marked_result():
            if result.as_json:
                print_json(result.value.model_dump(mode="json"))
            else:
                result.print_summary()
        # Typer and rich exit with 1 if the reader has ended, as `head` does.
        sys.stdout.flush()
        return result.exit_code


class Verbs(typer.Typer):
    """A group of verbs."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:  # noqa: ANN401
        """Declare a verb, with the options of `typer.Typer.command`."""
        return super().command(name, **{"cls": Verb} | options)


def print_json(tree: dict[str, Any]) -> None:
    """Print values as JSON, which has no NaN and no infinity: they become null."""
    print(json.dumps(_finite(tree), indent=2, allow_nan=False))


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what is written to stdout, also by C++ libraries and child processes.

    MLflow prints the address of a run to stdout, and Ray Tune a table of its trials.
    """
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def paragraphs(text: str) -> str:
    """Join the lines of each paragraph, so that the terminal wraps them; lines of commands stay as they are."""
    blocks = (block.splitlines() for block in inspect.cleandoc(text).split("\n\n"))
    return "\n\n".join(("\n" if all(map(_is_command, lines)) else " ").join(lines) for lines in blocks)


def _finite(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_command(line: str) -> bool:
    return line.startswith("sat2map ")


def _hint(unknown: str, *, similar: bool) -> str:
    """Return the way to change a setting, unless an option is similar.

    `mlflow run` passes parameters that MLproject does not have as options.
    """
    from pipelines.config.explanations import near_settings

    near = near_settings(unknown)
    if similar and not near:
        return ""
    example = near[0] if near else "KEY"
    return f'. Settings are changed with --set {example}=VALUE, in `mlflow run` with -P set="{example}=VALUE".'


def _no_type(ctx: object) -> None:
    return None
