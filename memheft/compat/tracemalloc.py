"""The standard module tracemalloc, on memheft's engine: change the import, keep the rest.

    from memheft.compat import tracemalloc

All its functions and classes are here, and they give the same values in the same order and form.  The classes are the
standard module's own; snapshots can be compared, dumped and loaded across both.

What differs:

* Before CPython 3.13, objects that the interpreter takes from its free lists (floats, lists, dicts, small tuples, frames
  of generators, ...) keep the traceback of the request for their memory.  The standard module gives them that of their
  latest use.  Sizes, counts and sums are the same; such an object may stand at another line that made objects of its type.
* What the module itself takes while it makes a snapshot is not quite the same number of bytes.  It stands at the
  standard module's own lines, as usual: Filter(False, tracemalloc.__file__) leaves it out with either module.
* A program with very many call paths: up to 65,536 of them are kept whole.  Then only the `nframe` innermost frames are
  kept of a new one, which total_nframe can't exceed from there on.  (Only if nframe is at most 64: of larger ones all of
  262,144 paths.)  From 262,144 on, new paths keep one frame.
* A file name is cut after 3,072 bytes.
* A child made by fork traces nothing.  -X tracemalloc, PYTHONTRACEMALLOC, the C functions PyTraceMalloc_Track and
  Untrack, and the tracebacks in ResourceWarning belong to the standard module.
* There is one recording in a process: start() raises RuntimeError under `memheft run` and while memheft records.
"""

from __future__ import annotations

import tracemalloc as _standard
from collections.abc import Callable
from tracemalloc import (
    BaseFilter,
    DomainFilter,
    Filter,
    Frame,
    Snapshot,
    Statistic,
    StatisticDiff,
    Trace,
    Traceback,
)
from types import FunctionType
from typing import Any, TypeVar, cast

from memheft._engine import traces as _traces

__all__ = [
    "BaseFilter",
    "DomainFilter",
    "Filter",
    "Frame",
    "Snapshot",
    "Statistic",
    "StatisticDiff",
    "Trace",
    "Traceback",
    "clear_traces",
    "get_object_traceback",
    "get_traceback_limit",
    "get_traced_memory",
    "get_tracemalloc_memory",
    "is_tracing",
    "reset_peak",
    "start",
    "stop",
    "take_snapshot",
]

__file__ = _standard.__file__  # whose lines allocate while a snapshot is made, and which filters are to leave out

start = _traces.start
stop = _traces.stop
is_tracing = _traces.is_tracing
clear_traces = _traces.clear_traces
get_traced_memory = _traces.get_traced_memory
reset_peak = _traces.reset_peak
get_traceback_limit = _traces.get_traceback_limit
get_tracemalloc_memory = _traces.get_tracemalloc_memory
_get_object_traceback = _traces._get_object_traceback
_get_traces = _traces._get_traces

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _with_ours(function: _Function) -> _Function:
    """The standard module's function, which finds the functions above instead of its own."""
    code = cast(FunctionType, function)
    return cast(_Function, FunctionType(code.__code__, globals(), code.__name__, code.__defaults__, code.__closure__))


get_object_traceback = _with_ours(_standard.get_object_traceback)
take_snapshot = _with_ours(_standard.take_snapshot)


def __getattr__(name: str) -> Any:
    """What else is in the standard module, also under names that are its own business."""
    return getattr(_standard, name)
