"""How many processors this process may use."""

import os


def usable_cores() -> int:
    """Count the cores that the system lets this process run on, where it tells, or else all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
