"""What sharing is for: one copy in memory, whatever the number of engines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent / "benchmarks" / "bench_memory.py"


@pytest.mark.slow
def test_two_engines_and_the_kernel_need_one_copy_of_400_megabytes():
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--megabytes", "400", "--engines", "2"],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    measured = json.loads(done.stdout)
    assert measured["matrix_bytes"] == 400_000_000
    assert 1.0 <= measured["growth_ratio"] <= 1.05
    assert measured["left_bytes"] < 0.05 * measured["matrix_bytes"]
