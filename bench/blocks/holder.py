"""Keep COUNT blocks of one requested SIZE alive: `holder.py SIZE COUNT`; their list is made before."""

import sys
from collections.abc import Callable


def maker(size: int) -> Callable[[], object]:
    """A function that makes an object of one block of `size` bytes and nothing else."""
    if size == 16:
        return object
    if size == 24:
        zero = 1.5
        return lambda: zero * 2.0
    empty = sys.getsizeof(b"")
    length = size - empty
    return lambda: bytes(length)


def main() -> None:
    size, count = int(sys.argv[1]), int(sys.argv[2])
    make = maker(size)
    assert sys.getsizeof(make()) == size
    kept: list[object] = [None] * count
    for i in range(count):
        kept[i] = make()


main()
