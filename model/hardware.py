"""How many processors this process may use."""

import os
import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""The names of such instructions on x86 processors."""


def usable_cores() -> int:
    """Count the cores that the system lets this process run on, where it tells, or else all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_int8_dot_products(cpu_info: Path = CPU_INFO) -> bool:
    """See whether this processor multiplies int8 by instructions made for it; true where the system does not tell.

    Without them sums of products saturate at 16 bits: int8 models are slower, and what they draw is twice as far from
    the float32 model's map.
    """
    if not cpu_info.is_file():
        return True
    flags = {flag for line in cpu_info.read_text().splitlines() if line.startswith("flags") for flag in line.split()}
    return not flags.isdisjoint(DOT_PRODUCTS) if flags else True


def processor() -> str:
    """The processor's name, where the system tells one."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.machine()
