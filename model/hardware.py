"""The processor of this machine, and the cores that this process may use."""

import os
import platform
import subprocess
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
X86, ARM = "flags", "Features"
"""Headings of the lines that list a processor's instructions."""
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""Flags of x86 processors with instructions for sums of int8 products."""
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags of x86 and Arm processors with instructions for bfloat16."""
NOTABLE = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "bf16", "i8mm")
"""Flags that decide how fast a network is, from the oldest to the newest."""
BFLOAT16_CAPABILITY = 8.0
"""Compute capability from which NVIDIA's GPUs have bfloat16 (CUDA C++ Programming Guide, section 16.1)."""


def usable_cores() -> int:
    """Return the number of cores that this process may run on, or of all cores if the system does not limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_int8_dot_products(cpu_info: Path = CPU_INFO) -> bool:
    """Check for int8 dot product instructions; return true if the system does not list any instructions.

    Without them, sums of products saturate at 16 bits: int8 models are slower, and their maps differ twice as much from
    those of the float32 model.
    """
    flags = _flags(cpu_info, X86)
    return not flags.isdisjoint(DOT_PRODUCTS) if flags else True


def has_bfloat16(cpu_info: Path = CPU_INFO) -> bool:
    """Check for bfloat16 instructions; return false if the system does not list any instructions."""
    return not _flags(cpu_info, X86, ARM).isdisjoint(BFLOAT16)


def gpus_have_bfloat16() -> bool:
    """Return whether every GPU of this machine has bfloat16, by its driver; false if the driver does not answer."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        return bool(answer) and all(float(capability) >= BFLOAT16_CAPABILITY for capability in answer)
    except (OSError, subprocess.SubprocessError, ValueError):
        return False


def _flags(cpu_info: Path, *headings: str) -> set[str]:
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    return {flag for line in lines if line.startswith(headings) for flag in line.split()}


def processor() -> str:
    """Return the processor's name, or its architecture if the system does not give a name."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    names = [line for line in lines if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def describe_processor() -> str:
    """Return the processor's name, the cores that this process may use, and the instructions that decide its speed."""
    found = _flags(CPU_INFO, X86, ARM)
    listed = ", ".join(flag for flag in NOTABLE if flag in found) or "instructions unknown"
    return f"{processor()}, {usable_cores()} cores ({listed})"
