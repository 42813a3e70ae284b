"""What people see of a snapshot: tables as text and HTML, and the panel without its script.

It imports the errors and the core. The command line, the magics and the panel show what it makes.
"""

from memshare_jupyter.display._near import near
from memshare_jupyter.display._tables import (
    PageTable,
    Table,
    details,
    registered,
    some,
)
from memshare_jupyter.display._terminal import fitted, run_line, runs_of
from memshare_jupyter.display._twin import twin

__all__ = [
    "PageTable",
    "Table",
    "details",
    "fitted",
    "near",
    "registered",
    "run_line",
    "runs_of",
    "some",
    "twin",
]
