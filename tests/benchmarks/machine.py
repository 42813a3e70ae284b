"""What the figures of a benchmark depend on, without what would say whose machine it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

PACKAGES = (
    "memshare-jupyter", "numpy", "ipyparallel", "joblib", "ray", "distributed", "cloudpickle"
)  # fmt: skip


def facts() -> dict[str, Any]:
    """Return processor, memory, load and versions."""
    processor = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    release = re.match(r"[\d.]+\d", platform.release())  # what follows it is the builder's
    return {
        "cpu": processor[1].strip() if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) << 10 if memory else None,
        "kernel": f"{platform.system()} {release[0] if release else ''}".strip(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average": os.getloadavg()[0],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
