"""A room in `engines`: clusters of several hosts, each of which gets one copy of a page.

On each host one engine is the *lead*. It has a link to the process whose calls it serves, by which
that process says what is to be done and learns what was done; when the link ends, so does all that
it stood for. A *replica* is a view of a page whose owner is on another host: a copy of its
block, with its uuid, so that whatever leads to the page leads to the replica there.

It imports the errors, the core, and of `engines` what sends messages. The door opens when it is
asked for a name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
