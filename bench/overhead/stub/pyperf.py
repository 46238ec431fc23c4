"""A stand-in for pyperf that runs a benchmark once, in this process, and measures nothing.

pyperformance's scripts hand their benchmark function to `pyperf.Runner`, which calibrates it and repeats
it in worker processes. An outer harness that measures whole processes wants none of that: this module,
found first through PYTHONPATH, calls the function for a fixed number of loops and returns. Two variables
say how: BENCH_LOOPS, the number of loops, and BENCH_ONLY, the name of the one benchmark to run where a
script registers several. It imports as little as it can, since it is part of every measured program.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

perf_counter = time.perf_counter
LOOPS = int(os.environ.get("BENCH_LOOPS", "1"))
ONLY = os.environ.get("BENCH_ONLY", "")


def python_implementation() -> str:
    """The name pyperf gives the interpreter; pyperformance asks only whether it is 'pypy'."""
    return "cpython"


class Runner:
    """The part of pyperf.Runner that pyperformance's pure-Python benchmarks use."""

    def __init__(self, **_options: object) -> None:
        self.metadata: dict[str, object] = {}
        self.args: argparse.Namespace | None = None
        self._parser: argparse.ArgumentParser | None = None

    @property
    def argparser(self) -> argparse.ArgumentParser:
        if self._parser is None:
            import argparse

            self._parser = argparse.ArgumentParser()
        return self._parser

    def parse_args(self, args: list[str] | None = None) -> argparse.Namespace:
        if self.args is None:
            self.args = self.argparser.parse_args(args)
        return self.args

    def bench_time_func(
        self, name: str, func: Callable[..., float], *args: object, **_options: object
    ) -> None:
        """`func(loops, *args)` loops by itself."""
        if ONLY in ("", name):
            func(LOOPS, *args)

    def bench_func(self, name: str, func: Callable[..., object], *args: object, **_options: object) -> None:
        """`func(*args)` is one loop."""
        if ONLY in ("", name):
            for _ in range(LOOPS):
                func(*args)

    def bench_async_func(
        self, name: str, func: Callable[..., Awaitable[object]], *args: object, **_options: object
    ) -> None:
        """`await func(*args)` is one loop, all loops in one event loop."""
        if ONLY not in ("", name):
            return
        import asyncio

        async def main() -> None:
            for _ in range(LOOPS):
                await func(*args)

        asyncio.run(main())
