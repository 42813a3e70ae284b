"""The doctor: how memory is shared on this system, and what is amiss. Imports all of the core."""

from memshare_jupyter.core.doctor._examine import examine, render
from memshare_jupyter.core.doctor._surroundings import Check

__all__ = ["Check", "examine", "render"]
