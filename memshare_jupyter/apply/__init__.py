"""The caller's side of a call: prepare, work in rounds, collect; and the calls that go on.

It imports the errors, the core, `worker` and `engines`. Front ends learn of current runs here
without loading what a call needs: the door opens when it is asked for a name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
