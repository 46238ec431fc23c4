"""Deep recursion: 900 frames down, an allocation at each, so that every stack is a long one."""

import sys

DEPTH = 900


def down(depth: int) -> list[object]:
    here: list[object] = [depth + 1000]
    if depth:
        here.append(down(depth - 1))
    return here


def churn(depth: int) -> int:
    """All the allocations at the bottom."""
    if depth:
        return churn(depth - 1)
    return sum(len(str(n)) for n in range(1000, 4000))


def main() -> None:
    sys.setrecursionlimit(DEPTH + 200)
    for _ in range(500):
        down(DEPTH)
        churn(DEPTH)


main()
