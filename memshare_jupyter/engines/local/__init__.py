"""A room in `engines`: the local cluster, which starts in under a second and ends with its owner.

`_cluster` is the owner's, `_link` its end of the tether; `_tether` is the process between the owner
and the `_members`, which are ipyparallel's controller and engines. It imports the errors, and
of the core what it says of memory.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
