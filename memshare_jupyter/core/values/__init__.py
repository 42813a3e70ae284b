"""Values: a value <-> the bytes of a page. Imports errors and names, and nothing else of ours."""

from memshare_jupyter.core.values._about import unpack as unpack_about
from memshare_jupyter.core.values._elements import Elements, build, whole
from memshare_jupyter.core.values._gate import (
    as_plain,
    is_array,
    is_masked_array,
    is_plain,
    package_of,
    what_is_lost,
)
from memshare_jupyter.core.values._layout import ALIGNMENT, Layout
from memshare_jupyter.core.values._plan import Plan
from memshare_jupyter.core.values._sent import Reference, note, references
from memshare_jupyter.core.values._view import Source, View

__all__ = [
    "ALIGNMENT",
    "Elements",
    "Layout",
    "Plan",
    "Reference",
    "Source",
    "View",
    "as_plain",
    "build",
    "is_array",
    "is_masked_array",
    "is_plain",
    "note",
    "package_of",
    "references",
    "unpack_about",
    "what_is_lost",
    "whole",
]
