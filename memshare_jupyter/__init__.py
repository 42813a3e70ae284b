"""Register an array once in shared memory; attach it by name in every kernel and engine."""

from __future__ import annotations

from memshare_jupyter.core.api import (
    Namespace,
    page_list,
    register_variables,
    release_variables,
    release_views,
    retrieve_metadata,
    retrieve_views,
    view_list,
)
