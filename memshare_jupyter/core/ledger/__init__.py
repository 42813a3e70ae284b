"""The ledger: which process says that it holds what. Imports errors and names."""

from memshare_jupyter.core.ledger._runtime import runtime_directory

__all__ = ["runtime_directory"]
