"""What a caller of mutual information can choose, checked in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Estimator = Literal["pde", "kde", "ksg"]

#: 1,000 times the rounding of a double.
DEFAULT_EPS: Final = 1000 * 2.0**-52


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keyword arguments of `mutualinfo`, which explains them."""

    x_discrete: bool = False
    y_discrete: bool = False
    eps: float = DEFAULT_EPS
    use_mpmi: bool = False
    na_rm: bool = False
    estimator: Estimator = "pde"
    bias_correction: bool = False
    base: float | None = None
    compat: Literal["R"] | None = None
    transform: Literal["normal"] | None = None
    normalize: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Take those that a function passes on; say which there are if one is none."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise TypeError(
                    f"mutual information has no option {name}=; it has: {', '.join(known)}"
                )
        return cls(**given)

    def __post_init__(self) -> None:
        if self.use_mpmi:
            object.__setattr__(self, "estimator", "kde")
        if self.estimator not in ("pde", "kde", "ksg"):
            raise ValueError(f"estimator must be 'pde', 'kde' or 'ksg', not {self.estimator!r}")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps must be a number, at least 0, not {self.eps!r}")
        self._check_bias_correction()
        if self.base is not None and not (math.isfinite(self.base) and self.base > 1):
            raise ValueError(
                f"base must be a number above 1 (2 for bits, None for nats), not {self.base!r}"
            )
        if self.compat not in (None, "R"):
            raise ValueError(f"compat must be None or 'R', not {self.compat!r}")
        if self.transform not in (None, "normal"):
            raise ValueError(f"transform must be None or 'normal', not {self.transform!r}")
        foreign = self.estimator == "ksg" or self.bias_correction or self.base is not None
        foreign = foreign or self.transform is not None or self.normalize
        if self.compat == "R" and foreign:
            raise ValueError(
                "compat='R' gives the reference's own number in its own unit; it knows no base, "
                "bias_correction, normalize, transform (pass transform=None) or estimator='ksg'"
            )
        if self.normalize and self.base is not None:
            raise ValueError("normalize=True gives a number without a unit; leave out base")

    def _check_bias_correction(self) -> None:
        if not self.bias_correction:
            return
        if self.estimator == "ksg":
            raise ValueError("bias_correction=True is of estimator='pde' and 'kde', not of 'ksg'")
        if self.estimator == "pde" and self.x_discrete == self.y_discrete:
            raise ValueError(
                "bias_correction=True of estimator='pde' is for a continuous and a discrete "
                "variable; for two continuous ones take estimator='kde'"
            )

    def in_unit(
        self, nats: NDArray[np.float64] | float, most: NDArray[np.float64] | float
    ) -> NDArray[np.float64]:
        """Return estimates in the unit asked for; those below 0 as 0.

        With `normalize`, as shares of the most that they can be; where there is no such limit,
        as the correlation of a normal pair that has as much.
        """
        found = np.asarray(nats, dtype=np.float64)
        if self.compat == "R":  # has its own unit, and is not clipped
            return found
        found = np.maximum(found, 0.0)
        if self.normalize:
            limited = np.isfinite(most)
            limit = np.where(limited & (np.asarray(most) > 0), most, 1.0)
            correlation = np.sqrt(-np.expm1(-2.0 * found))
            return np.where(limited, np.minimum(found / limit, 1.0), correlation)
        return found if self.base is None else np.asarray(found / math.log(self.base))
