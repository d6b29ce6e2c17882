"""Errors of the command line: one sentence on stderr, with --json also JSON on stdout, and an exit code."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from model.errors import PromotionRefused, Sat2mapError, Stopped
from pipelines.cli.verbs import print_json
from pipelines.cluster.signals import STOPPED

if TYPE_CHECKING:
    from pydantic import BaseModel

MISTAKE = 2
"""Exit code of a mistake that the user can correct."""
REFUSED = 3
"""Exit code of a promotion that did not pass its gates."""


@contextmanager
def reported() -> Iterator[None]:
    """Print the errors of a command, and exit with their code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # A name of a file must not fail where the terminal's encoding lacks one of its characters.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        yield
    except PromotionRefused as refused:
        fail(kind_of(refused), str(refused), REFUSED, result=getattr(refused, "promotion", None))
    except Stopped as stopped:
        fail(kind_of(stopped), str(stopped), STOPPED)
    except Sat2mapError as error:
        fail(kind_of(error), str(error), MISTAKE, text=f"Error: {error}")
    except typer.TyperException as error:
        _fail_usage(error)


def exit_with(code: int | None) -> NoReturn:
    """Exit with the code of a command that has ended; Ctrl-C ends one with 130."""
    if code == STOPPED:
        fail("stopped", "Stopped.", STOPPED)
    sys.exit(code or 0)


def fail(kind: str, message: str, code: int, *, text: str = "", result: "BaseModel | None" = None) -> NoReturn:
    """Print an error and exit.

    Args:
        kind: Kind of the error in JSON.
        message: Message in JSON.
        code: The exit code.
        text: Text for stderr, by default the message.
        result: Results that the error carries, such as the gates of a refused promotion.
    """
    print(text or message, file=sys.stderr)
    if "--json" in sys.argv:
        results = {} if result is None else result.model_dump(mode="json")
        print_json({"error": {"kind": kind, "message": message, "exit_code": code}} | results)
    sys.exit(code)


def kind_of(error: Sat2mapError) -> str:
    """Return the kind of an error: `missing_step` for a MissingStepError."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower()


def _fail_usage(error: typer.TyperException) -> NoReturn:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message:
        # Without any argument, typer has printed the help.
        sys.exit(error.exit_code)
    hint = f"\nTry `{context.command_path} --help`." if context else ""
    fail("usage", message, error.exit_code, text=f"Error: {message}{hint}")
