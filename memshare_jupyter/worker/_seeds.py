"""Random numbers of a call: a generator for each item, whichever engine it falls to."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Seeds:
    """What the generators of a call's items are made of.

    Attributes
    ----------
    entropy : int or tuple of int
        The user's seed, or what `numpy.random.SeedSequence` took from the system.
    spawn_key : tuple of int
        That of the user's sequence, if it was one.
    pool_size : int
        The same.
    """

    entropy: int | tuple[int, ...]
    spawn_key: tuple[int, ...] = ()
    pool_size: int = 4

    @classmethod
    def of(cls, seed: Any) -> Seeds:
        """Read what users give as `seed`.

        Raises
        ------
        TypeError, ValueError
            It is none.
        """
        if isinstance(seed, np.random.SeedSequence):
            given: Any = seed.entropy
            entropy = given if isinstance(given, int) else tuple(map(int, given))
            return cls(entropy, tuple(seed.spawn_key), seed.pool_size)
        try:
            if isinstance(seed, bool):
                raise TypeError
            if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes):
                entropy = tuple(map(operator.index, seed))
            else:
                entropy = operator.index(seed)
        except TypeError:
            raise TypeError(
                "seed must be an integer, a sequence of them, or a numpy.random.SeedSequence, not "
                f"{seed!r}"
            ) from None
        np.random.SeedSequence(entropy)  # says what is wrong with negative ones
        return cls(entropy)

    def generator(self, index: int) -> np.random.Generator:
        """Return the generator of an item, at its beginning."""
        sequence = np.random.SeedSequence(
            self.entropy, spawn_key=(*self.spawn_key, index), pool_size=self.pool_size
        )
        return np.random.Generator(np.random.PCG64(sequence))
