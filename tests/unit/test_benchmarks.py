"""Benchmarks that need no server run at all: what they measure has not moved away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_benchmark_of_large_values_has_a_row_for_each() -> None:
    """Printed, not judged."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large_values"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n| ") == 5
