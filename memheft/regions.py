"""Naming the parts of a program, so that a recording can say what each of them weighs.

A program may name its parts whether it is recorded or not: what is imported here, it pays for in any case.
"""

from __future__ import annotations

try:
    from memheft._engine import enter_region, leave_region
except ImportError:  # nothing can be recorded by this Python: there is nothing to name

    def enter_region(_owner: object, _name: str, /) -> None:
        """Do nothing."""

    def leave_region(_owner: object, /) -> None:
        """Do nothing."""


TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    Function = TypeVar(
        "Function", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]"
    )

else:

    def overload(function: object) -> object:
        """Do nothing."""
        return function


@overload
def region(name: Function, /) -> Function: ...  # noqa: D103
@overload
def region(name: str, /) -> Region: ...  # noqa: D103, F811
def region(name: Any, /) -> Any:  # noqa: F811
    """Name what is allocated while a block or a function runs.

        with memheft.region("load"):
            load()

        @memheft.region("parse")            # or @memheft.region: the function's name
        async def parse(): ...

    `memheft report --by region` and `view.by("region")` then say what was allocated inside. A region within
    another is its part: "load / parse". One directly within itself, as by recursion, is itself.

    Regions follow contextvars. Each thread is in its own, and so is each asyncio task: it begins in the
    region that its creator was in, and keeps what it enters to itself. A decorated generator is in the region
    while it runs, not while it waits at a yield; a `with` block inside a generator is left only when it ends,
    as with every context variable.

    Entering and leaving costs a microsecond, half of it when nothing is recorded, and each change of regions
    the walk of one stack: 12 microseconds where a thousand functions have called each other.

    Names are for kinds of work, not for pieces of it: the first 4,096 regions of a recording (one in each
    thread and in each other region counts) have numbers of their own. TypeError if `name` is no text,
    ValueError if it is empty.
    """
    if isinstance(name, (staticmethod, classmethod)) or (callable(name) and not isinstance(name, str)):
        return Region(getattr(name, "__qualname__", type(name).__qualname__))(name)
    return Region(name)


class Region:
    """A name for what is allocated inside: a context manager or a decorator, to use as often as you like."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a region's name is text, not {name!r}")
        if not name:
            raise ValueError("a region's name cannot be empty")
        self._name = name

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    def __repr__(self) -> str:
        return f"memheft.region({self._name!r})"

    def __enter__(self) -> Region:
        enter_region(self, self._name)
        return self

    def __exit__(self, *_error: object) -> None:
        leave_region(self)

    def __call__(self, function: Function) -> Function:
        """Run the function inside the region."""
        from memheft.wrapping import wrap

        return wrap(function, self, stepwise=True, name="memheft.region")
