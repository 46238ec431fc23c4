"""Object churn: dicts, lists, strings and instances that die young, at several depths of the stack."""


class Point:
    """An instance with a dictionary."""

    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y


def record(n: int) -> dict[str, object]:
    return {"id": n, "name": f"name {n}", "tags": [n, n + 1, n + 2], "at": Point(n, -n)}


def down(depth: int, n: int) -> int:
    if depth:
        return down(depth - 1, n)
    total = 0
    for i in range(n, n + 50):
        total += len(record(i))
        total += len(str(i * 1_000_003)) + len([i] * 20)
    return total


def main() -> None:
    for n in range(10_000):
        down(n % 30, n)


main()
