"""ipyparallel, and only here: which engines a call may use, messages to them, names on them.

It imports the errors, the core and `worker`. The door opens when it is asked for a name, because
a local cluster begins in this room with a process that should load nothing it need not; and
ipyparallel itself is loaded by the first call that needs engines.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
