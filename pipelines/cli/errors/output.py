"""Errors of the command line: one sentence on stderr, with --json also JSON on stdout, and an exit code."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from model.errors import DataError, PromotionRefused, Sat2mapError, Stopped
from pipelines.cli.errors import outside
from pipelines.cli.verbs import print_json
from pipelines.cluster.job_log import marked_result
from pipelines.cluster.signals import STOPPED

if TYPE_CHECKING:
    from pydantic import BaseModel

MISTAKE = 2
"""Exit code of a mistake that the user can correct."""
REFUSED = 3
"""Exit code of a promotion that did not pass its gates."""


@contextmanager
def reported() -> Iterator[None]:
    """Print the errors of a command, and exit with their code; those that may be our own keep their traceback."""
    _open_streams()
    try:
        _check_folder()
        yield
    except PromotionRefused as refused:
        text = "\n".join([str(refused), *(f"  {line}" for line in refused.lines)])
        fail(kind_of(refused), str(refused), REFUSED, text=text, result=refused.promotion)
    except Stopped as stopped:
        fail(kind_of(stopped), str(stopped), STOPPED)
    except Sat2mapError as error:
        fail(kind_of(error), str(error), MISTAKE, text=f"Error: {error}")
    except typer.TyperException as error:
        _fail_usage(error)
    except Exception as error:
        found = outside.explain(error)
        if found is None:
            raise
        fail(found.kind, found.message, MISTAKE, text=f"Error: {found.message}")


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
    try:
        print(text or message, file=sys.stderr, flush=True)
        if "--json" in sys.argv:
            results = {} if result is None else result.model_dump(mode="json")
            with marked_result():
                print_json({"error": {"kind": kind, "message": message, "exit_code": code}} | results)
        sys.stdout.flush()
    except OSError:
        # Nobody reads the output, or it goes to a full disk.
        _discard_output()
    sys.exit(code)


def kind_of(error: Sat2mapError) -> str:
    """Return the kind of an error: `missing_step` for a MissingStepError."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower()


def _open_streams() -> None:
    """Prepare stdin, stdout and stderr, also where the caller has closed one of them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number is that of the closed stream, which no other file must take.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        # A name of a file must not fail where the terminal's encoding lacks one of its characters.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _check_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise DataError("The current folder was deleted; change to another one.") from error


def _discard_output() -> None:
    """Discard what Python would still write to stdout and stderr at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)


def _fail_usage(error: typer.TyperException) -> NoReturn:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message:
        # Without any argument, typer has printed the help.
        sys.exit(error.exit_code)
    hint = f"\nTry `{context.command_path} --help`." if context else ""
    fail("usage", message, error.exit_code, text=f"Error: {message}{hint}")
