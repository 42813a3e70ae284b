"""Whatever is done to processes, and whenever: nothing is wrong, torn, lost, left, or stuck."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = [
    pytest.param(3, id="some rounds"),
    pytest.param(40, id="many rounds", marks=pytest.mark.slow),
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("backend", ["memfd", "file"])
def test_no_attack_makes_values_or_counts_wrong_or_loses_or_leaks(
    child_environment, backend, rounds
):
    script = str(Path(__file__).with_name("attack"))
    options = ["--seed", str(rounds), "--rounds", str(rounds), "--backend", backend]
    done = subprocess.run(
        [sys.executable, "-W", "error", script, *options],
        env=child_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout
    assert "0 wrong, 0 lost, 0 leaked, 0 errors, 0 stuck" in done.stdout
