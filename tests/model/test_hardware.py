"""Instructions of the processor and of GPUs, as the system and the driver list them."""

import os

import pytest

from model import hardware
from model.hardware import gpus_have_bfloat16, has_bfloat16, has_int8_dot_products


@pytest.fixture
def cpu_info(tmp_path):
    """Return a function that writes the system's list."""

    def write(text):
        (tmp_path / "cpuinfo").write_text(text)
        return tmp_path / "cpuinfo"

    return write


@pytest.mark.parametrize(
    ("info", "int8", "bfloat16"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", True, False),
        ("flags\t\t: fpu avx2 avx_vnni\n", True, False),
        ("flags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: fpu avx2 avx512f\n", False, False),
        ("flags\t\t: fpu avx512_vnni avx512_bf16\n", True, True),
        ("flags\t\t: fpu amx_bf16 amx_int8\n", True, True),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n", True, False),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n", True, True),
    ],
)
def test_instructions_are_read_from_the_processors_flags(cpu_info, info, int8, bfloat16):
    file = cpu_info(info)
    assert (has_int8_dot_products(file), has_bfloat16(file)) == (int8, bfloat16)


def test_int8_dot_products_are_assumed_and_bfloat16_is_not_if_the_system_lists_no_flags(tmp_path):
    assert has_int8_dot_products(tmp_path / "nowhere") and not has_bfloat16(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        ("echo 9.0; echo 8.6", True),
        ("echo 9.0; echo 7.5", False),
        ("echo No devices were found", False),
        ("exit 9", False),
        (":", False),
        (None, False),
    ],
)
def test_bfloat16_of_gpus_is_read_from_their_driver(tmp_path, monkeypatch, driver, expected):
    if driver is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{driver}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    assert gpus_have_bfloat16() is expected


def test_processor_is_described_with_its_cores_and_instructions(cpu_info, monkeypatch):
    monkeypatch.setattr(hardware, "CPU_INFO", cpu_info("model name\t: EPYC 9\nflags\t\t: fpu avx512_vnni avx512f\n"))
    assert hardware.describe_processor() == f"EPYC 9, {len(os.sched_getaffinity(0))} cores (avx512f, avx512_vnni)"
