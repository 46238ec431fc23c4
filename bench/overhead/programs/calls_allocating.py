"""Calls and allocations in equal parts: each call, three frames down, makes one object that soon dies."""


def make(n: int) -> tuple[int, float]:
    return (n, n * 0.5)


def through(n: int) -> tuple[int, float]:
    return make(n)


def use(n: int) -> float:
    return through(n)[1]


def main() -> None:
    for _ in range(50):
        for n in range(100_000):
            use(n)


main()
