"""The processor of this machine, and the cores that this process may use."""

import os
import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""Flags of x86 processors with instructions for sums of int8 products."""


def usable_cores() -> int:
    """Return the number of cores that this process may run on, or of all cores if the system does not limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_int8_dot_products(cpu_info: Path = CPU_INFO) -> bool:
    """Check for int8 dot product instructions; return true if the system does not list any instructions.

    Without them, sums of products saturate at 16 bits: int8 models are slower, and their maps differ twice as much from
    those of the float32 model.
    """
    if not cpu_info.is_file():
        return True
    flags = {flag for line in cpu_info.read_text().splitlines() if line.startswith("flags") for flag in line.split()}
    return not flags.isdisjoint(DOT_PRODUCTS) if flags else True


def processor() -> str:
    """Return the processor's name, or its architecture if the system does not give a name."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    names = [line for line in lines if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()
