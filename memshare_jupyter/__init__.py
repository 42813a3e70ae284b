"""Register an array once in shared memory; attach it by name in every kernel and engine.

Imports go in one direction: errors <- core <- compute <- cluster <- apply <- magics, and likewise
apply <- information <- selection. Nothing that needs ipyparallel, scipy or IPython is loaded before
it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from memshare_jupyter.apply._calls import memapply, memlapply
    from memshare_jupyter.apply._run import Run
    from memshare_jupyter.core.api import (
        Namespace,
        page_list,
        register_file,
        register_variables,
        release_variables,
        release_views,
        retrieve_metadata,
        retrieve_views,
        snapshot,
        view_list,
    )
    from memshare_jupyter.core.values import View
    from memshare_jupyter.engines._cluster import memshare_gc
    from memshare_jupyter.engines.local._cluster import LocalCluster, local_cluster
    from memshare_jupyter.errors import (
        ClusterError,
        HeaderMismatchError,
        InvalidNameError,
        LockTimeoutError,
        MemApplyError,
        MemshareError,
        NotEnoughMemoryError,
        NotOwnerError,
        PageExistsError,
        PageNotFoundError,
        ReadOnlyPageError,
        RegistryBusyError,
        RegistryCorruptError,
        TooManyFilesError,
        UnsupportedValueError,
    )
    from memshare_jupyter.information._matrix import mutual_info_matrix, mutual_info_score_func
    from memshare_jupyter.information._mutual_info import mutualinfo
    from memshare_jupyter.information._plots import class_densities, mutual_info_figure
    from memshare_jupyter.information._selection import SelectedFeatures, select_features
    from memshare_jupyter.panel._panel import Panel

__version__ = "0.1.0"

_WHERE: Final = {
    "engines.local._cluster": ["LocalCluster", "local_cluster"],
    "apply._calls": ["memapply", "memlapply"],
    "engines._cluster": ["memshare_gc"],
    "information._mutual_info": ["mutualinfo"],
    "core.api": [
        "Namespace",
        "page_list",
        "register_file",
        "register_variables",
        "release_variables",
        "release_views",
        "retrieve_metadata",
        "retrieve_views",
        "snapshot",
        "view_list",
    ],
    "core.values": ["View"],
    "errors": [
        "ClusterError",
        "HeaderMismatchError",
        "InvalidNameError",
        "LockTimeoutError",
        "MemApplyError",
        "MemshareError",
        "NotEnoughMemoryError",
        "NotOwnerError",
        "PageExistsError",
        "PageNotFoundError",
        "ReadOnlyPageError",
        "RegistryBusyError",
        "RegistryCorruptError",
        "TooManyFilesError",
        "UnsupportedValueError",
    ],
    "information._matrix": ["mutual_info_matrix", "mutual_info_score_func"],
    "panel._panel": ["Panel"],
    "information._plots": ["class_densities", "mutual_info_figure"],
    "apply._run": ["Run"],
    "information._selection": ["SelectedFeatures", "select_features"],
}
_MODULE_OF: Final = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "ClusterError",
    "HeaderMismatchError",
    "InvalidNameError",
    "LocalCluster",
    "LockTimeoutError",
    "MemApplyError",
    "MemshareError",
    "Namespace",
    "NotEnoughMemoryError",
    "NotOwnerError",
    "PageExistsError",
    "PageNotFoundError",
    "Panel",
    "ReadOnlyPageError",
    "RegistryBusyError",
    "RegistryCorruptError",
    "Run",
    "SelectedFeatures",
    "TooManyFilesError",
    "UnsupportedValueError",
    "View",
    "__version__",
    "class_densities",
    "local_cluster",
    "memapply",
    "memlapply",
    "memshare_gc",
    "mutual_info_figure",
    "mutual_info_matrix",
    "mutual_info_score_func",
    "mutualinfo",
    "page_list",
    "register_file",
    "register_variables",
    "release_variables",
    "release_views",
    "retrieve_metadata",
    "retrieve_views",
    "select_features",
    "snapshot",
    "view_list",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add the magics: what ``%load_ext memshare_jupyter`` calls."""
    from memshare_jupyter.magics import load  # noqa: PLC0415

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics and end every handle of this process: ``%unload_ext memshare_jupyter``."""
    from memshare_jupyter.magics import unload  # noqa: PLC0415

    unload(shell)
