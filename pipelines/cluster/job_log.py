"""The log of a job, in which Ray mixes stdout and stderr of the verb with lines of its own."""

import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.config import job

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

BEGIN, END = "\x02 result", "\x03 result"
"""Lines around the result of a verb."""
RAY_LINE = re.compile(
    r"\S+ \S+\tINFO job_manager\.py:\d+ -- |Running entrypoint for job |\S*\(raylet\)|\t\(\d\) raylet "
)
"""Lines that Ray itself writes into a job's log: before the verb begins, and when a node is lost."""


@contextlib.contextmanager
def marked_result() -> Iterator[None]:
    """Mark what is printed to stdout in the block as the result, if this process is a job."""
    if job.address():
        print(BEGIN, flush=True)
    yield
    if job.address():
        print(END, flush=True)


@dataclass
class Log:
    """A job's log: its result goes to stdout and all else to stderr.

    Each line is printed once, although every new connection starts at the beginning.
    """

    lines: int = 0
    """Number of lines printed or skipped so far."""
    in_result: bool = False

    async def show(self, client: "JobSubmissionClient", job_id: str) -> None:
        """Print new lines up to the log's end, except those that Ray itself adds."""
        seen, partial = 0, ""
        async for text in client.tail_job_logs(job_id):
            *lines, partial = (partial + text).split("\n")
            for line in lines:
                seen += 1
                if seen > self.lines:
                    self._print(line)
        if partial and seen >= self.lines:
            self._print(partial)

    def _print(self, line: str) -> None:
        self.lines += 1
        if line in (BEGIN, END):
            self.in_result = line == BEGIN
        elif not RAY_LINE.match(line):
            print(line, file=sys.stdout if self.in_result else sys.stderr, flush=True)
