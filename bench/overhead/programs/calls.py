"""Call-dominated: millions of calls of one-line functions and methods, hardly an allocation."""


def small(a: int, b: int) -> int:
    return a if a < b else b


class Counter:
    """A method and an attribute."""

    def __init__(self) -> None:
        self.value = 0

    def pick(self, n: int) -> int:
        return small(self.value, n)


def outer(counter: Counter, n: int) -> int:
    return counter.pick(small(n, 7))


def main() -> None:
    counter = Counter()
    for _ in range(50_000):
        for n in range(100):
            outer(counter, n)


main()
