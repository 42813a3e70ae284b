"""Namespace: a sharing context as a mapping from variable to value."""

from __future__ import annotations

import operator
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from memshare_jupyter.core.names import check_namespace
from memshare_jupyter.core.quantities import count, in_units
from memshare_jupyter.core.registry import PageInfo, registry
from memshare_jupyter.core.values import View
from memshare_jupyter.errors.pointing import pointing


class Namespace(MutableMapping[str, Any]):
    """A sharing context as a mapping from variable to value.

    ``ns["X"] = X`` registers, ``ns["X"]`` attaches, ``del ns["X"]`` releases. Iteration goes over
    the pages of every process. A view that is taken here ends with the last array that uses it.
    As a context manager, a namespace releases and detaches at the end whatever this process
    still has in it.

    Parameters
    ----------
    name : str
        Name of the sharing context; see `register_variables`.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import Namespace
    >>> with Namespace("doc") as ns:
    ...     ns["X"] = np.arange(6).reshape(2, 3)
    ...     list(ns), ns["X"].shape
    (['X'], (2, 3))
    """

    def __init__(self, name: str) -> None:
        self.name = check_namespace(name)

    @pointing
    def empty(
        self,
        variable: str,
        shape: int | tuple[int, ...],
        dtype: DTypeLike = float,
        order: Literal["C", "F"] = "C",
        *,
        writable: bool = False,
    ) -> View:
        """Register an array of zeros and return it, to be filled in place: no second copy.

        Parameters
        ----------
        variable : str
            Its name. A page of that name is replaced.
        shape : int or tuple of int
            Its shape.
        dtype : dtype, default float
            Any without Python objects.
        order : {"C", "F"}
            Its memory layout.
        writable : bool, default False
            Let viewers write too. This process may in any case.

        Returns
        -------
        View
            Of the given shape, writable here. Others who attach the page see at once what is
            written. It stays valid after the page was released.

        Raises
        ------
        InvalidNameError, UnsupportedValueError, PageExistsError, NotEnoughMemoryError
            As `register_variables`.

        Examples
        --------
        >>> from memshare_jupyter import Namespace
        >>> with Namespace("doc") as ns:
        ...     out = ns.empty("out", (2, 3))
        ...     out[:] = 7
        ...     float(ns["out"].sum())
        42.0
        """
        if order not in {"C", "F"}:
            raise ValueError(f"order must be 'C' or 'F', not {order!r}")
        dimensions = _dimensions(shape)
        return registry().empty(
            self.name, variable, dimensions, np.dtype(dtype), order, writable=writable
        )

    @pointing
    def __getitem__(self, variable: str) -> Any:
        attached = registry().attach_all(self.name, [variable], hold=False, whole=True)
        return attached[variable]

    @pointing
    def __setitem__(self, variable: str, value: Any) -> None:
        registry().register(self.name, {variable: value})

    @pointing
    def __delitem__(self, variable: str) -> None:
        registry().release(self.name, [variable])

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(page.variable for page in self._pages()))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, variable: object) -> bool:
        return any(page.variable == variable for page in self._pages())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        registry().gc(self.name)

    def __repr__(self) -> str:
        pages = self._pages()
        lines = [f"Namespace({self.name!r}): {count(len(pages), 'page')}"]
        lines += [
            f"  {p.variable}: {f'{p.kind} {p.dtype}'.strip()} {p.shape}, {in_units(p.size_bytes)}, "
            f"{count(p.handles, 'handle')}, {p.state}"
            for p in pages
        ]
        return "\n".join(lines)

    def _pages(self) -> list[PageInfo]:
        return [
            page
            for page in registry().snapshot().pages
            if page.namespace == self.name and page.state != "draining"
        ]


def _dimensions(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, SupportsIndex) else tuple(shape)
    dimensions = tuple(operator.index(n) for n in sizes)
    if min(dimensions, default=0) < 0:
        raise ValueError(f"a shape has no negative dimensions: {shape}")
    return dimensions
