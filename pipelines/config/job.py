"""Whether this process is a job that `submit` has sent to a Ray cluster."""

import os

VARIABLE = "SAT2MAP_JOB_ADDRESS"
"""Environment variable of jobs: the address of the dashboard that they were sent to, without a password."""


def address() -> str:
    """Return the address that this job was sent to, empty if this process is no job."""
    return os.environ.get(VARIABLE, "")
