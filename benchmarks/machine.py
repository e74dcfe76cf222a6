"""What a reader must know of the machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_cpu() -> str:
    """Return the processor's name as the kernel has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def describe_machine() -> str:
    """Return interpreter, processor, kernel and load in one sentence."""
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return (
        f"CPython {platform.python_version()}, {describe_cpu()}, {cores} cores, "
        f"Linux {platform.release()}, load {load:.1f}"
    )
