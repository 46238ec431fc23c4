"""The standard module tracemalloc, on memheft's engine: change the import, keep the rest.

    from memheft.compat import tracemalloc

All functions and classes are here, and give the same values in the same order and form. The classes are the
standard module's own: snapshots of both can be compared, dumped and loaded.

What differs:

* CPython 3.11 and 3.12: an object whose memory comes from the interpreter's free lists (float, list, dict,
  tuple, ...) keeps the traceback of the request for that memory; the standard module gives it the one of its
  latest use. Sums are the same; such an object may stand at another line that made objects of its type.
  From 3.13 on there is no difference, unless the program has a PyRefTracer of its own.
* A program with very many call paths: the first 65,536 are kept whole. Of later ones only the `nframe`
  innermost frames are kept: their total_nframe may be too small. (With nframe above 64, 262,144 are kept
  whole.) From 262,144 paths on, of a new one only the innermost frame is kept.
* A child made by fork traces nothing until it calls start().
* A file name is cut after 3,072 bytes. get_tracemalloc_memory() says what our tables take.
* -X tracemalloc, PYTHONTRACEMALLOC, the functions of the C API and the tracebacks in ResourceWarning belong
  to the standard module, and see nothing of this one. What those functions track in domains of its own
  (numpy's arrays, for instance) is not here: the domain is always 0.
* There is one recording in a process: start() raises RuntimeError under `memheft run`, while another is made,
  and where the interpreter cannot be recorded; OSError where memory for it cannot be had.
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

# Filter(False, tracemalloc.__file__) leaves out what making snapshots takes: the lines that do so are the
# standard module's, here as well.
__file__ = _standard.__file__

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
    theirs = cast(FunctionType, function)
    ours = FunctionType(theirs.__code__, globals(), theirs.__name__, theirs.__defaults__)
    ours.__doc__ = theirs.__doc__
    return cast(_Function, ours)


get_object_traceback = _with_ours(_standard.get_object_traceback)
take_snapshot = _with_ours(_standard.take_snapshot)


def __getattr__(name: str) -> Any:
    """What else is in the standard module, also under names that are its own business."""
    return getattr(_standard, name)
