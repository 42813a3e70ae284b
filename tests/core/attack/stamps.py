"""Values that say themselves what they are: whose they are, and that somebody registered them.

An array of a name is a ramp, the same for all, with a stamp over each element. The stamp has a
serial number, a checksum of name, serial and length, and the name's number. So of any array it can
be said whether it is whole, one name's, and what somebody made; a checksum for ever.

Kinds, the first letter of a name: ``a`` small arrays, ``b`` big ones of one size, which is what
is registered again in the same memory, ``w`` writable ones, ``e`` such as are filled in place,
``l`` lists, ``o`` objects that call the package when they are unpickled.
"""

from __future__ import annotations

import contextlib
import random
import zlib

import numpy as np

import memshare_jupyter as ms

SPACE = "n"
KINDS = "abwelo"
NAMES = [kind + str(i) for kind in KINDS for i in range(2)] + ["b2"]
BIG = 140_000
"""1.1 MB: just enough for the registry to use the memory again."""
SMALL = (1, 40, 3000, 20_000)
_CODE = 0xFFFF
RAMP = (np.arange(BIG, dtype=np.int64) * 0x9E37_79B9_7F4B) << 16
RAMP.flags.writeable = False


class Caller:
    """An object that uses the package while it is unpickled, as its author pleased."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def __reduce_ex__(self, protocol):
        return _called, (self.name, self.array)


def _called(name, array):
    with contextlib.suppress(ms.MemshareError):
        random.choice(CALLS)()  # noqa: S311 -- nothing secret
    return Caller(name, array)


# It imports when it is first called: not in a finalizer, or a thread while another one forks.
np.unique(RAMP[:2])
CALLS = (
    ms.page_list,
    ms.view_list,
    ms.snapshot,
    lambda: ms.retrieve_metadata(SPACE, "b0"),
    lambda: ms.release_views(SPACE, "b1"),
    lambda: ms.retrieve_views(SPACE, "a0"),
    lambda: ms.Namespace(SPACE)["b0"],
)


def code(name):
    """What the low 16 bits of all elements of a name are."""
    return NAMES.index(name) + 1


def stamp(name, serial, length):
    """What lies over each element of the array of a name, serial and length."""
    check = zlib.crc32(f"{name}/{serial}/{length}".encode()) & 0xFFFF
    return serial << 32 | check << 16 | code(name)


def make(rng, name):
    """A value for a name, and its stamp."""
    serial = rng.getrandbits(30)
    length = BIG if name[0] == "b" else rng.choice(SMALL)
    mark = stamp(name, serial, length)
    array = RAMP[:length] ^ mark
    if rng.random() < 0.3:  # a column: it has to be gathered
        matrix = np.zeros((length, 2), np.int64)
        matrix[:, 1] = array
        array = matrix[:, 1]
    if name[0] == "l":
        return [array, array[:3]], mark
    return (Caller(name, array) if name[0] == "o" else array), mark


def arrays(name, value):
    """The whole array of a value."""
    if name[0] == "l":
        return np.asarray(value[0])
    return np.asarray(value.array if name[0] == "o" else value)


def is_loose(name):
    """Say whether its values change, or are cut: all that is known of each element is the name."""
    return name[0] in "we"


def stamp_of(name, value):
    """The stamp of a value that `fault` has nothing against."""
    return int(arrays(name, value)[0])


def fault(name, value, whole=True):
    """Say what is wrong with a value; empty when nothing is."""
    if name[0] == "l" and len(value) != 2:
        return f"{name} has {len(value)} elements"
    array = arrays(name, value)
    if is_loose(name):
        found = array[array != 0] if name[0] == "e" else array
        wrong = np.unique(found[(found & _CODE) != code(name)] & _CODE)
        return f"{name} has elements of {wrong[:5]}" if wrong.size else ""
    length = len(array)
    marks = array ^ RAMP[:length]
    first = int(marks[0])
    if not (marks == first).all():
        found, counts = np.unique(marks, return_counts=True)
        shown = [(hex(int(m)), int(c)) for m, c in zip(found[:5], counts[:5], strict=True)]
        return f"{name} is torn: {shown}"
    if whole and first != stamp(name, first >> 32, length):
        return f"{name} has {hex(first)}, which nobody registered"
    if name[0] == "l" and not (np.asarray(value[1]) == array[:3]).all():
        return f"{name} has other elements"
    return ""
