"""Values: a value <-> the bytes of a page. Imports errors and nothing else of ours."""

from memshare_jupyter.core.values._values import Elements, Plan
from memshare_jupyter.core.values._view import View

__all__ = ["Elements", "Plan", "View"]
