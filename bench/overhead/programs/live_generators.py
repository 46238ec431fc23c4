"""10,000 live generators, each resumed in turn: frames that leave the stack and come back elsewhere."""

from collections.abc import Iterator

COUNT = 10_000


def numbers(start: int) -> Iterator[tuple[int, str]]:
    n = start
    while True:
        n += 1000
        yield (n, str(n))


def doubled(start: int) -> Iterator[tuple[int, str]]:
    for n, text in numbers(start):
        yield (n * 2, text + text)


def tree(depth: int) -> Iterator[int]:
    """A recursive generator: a `yield from` as deep as the tree."""
    if depth:
        yield from tree(depth - 1)
        yield depth * 1000
        yield from tree(depth - 1)


def main() -> None:
    alive = [doubled(n) for n in range(COUNT)]
    for _ in range(100):
        for generator in alive:
            next(generator)
    assert sum(1 for _ in tree(17)) == 2**17 - 1


main()
