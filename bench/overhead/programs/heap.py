"""A heap that stays: about 1.5 million small objects kept alive, which is where memory per block shows."""


class Row:
    """An instance with slots, as careful programs use."""

    __slots__ = ("key", "name", "values")

    def __init__(self, key: int) -> None:
        self.key = key * 1000
        self.name = f"row {key}"
        self.values = [key + 0.5, key + 1.5]


def main() -> None:
    rows = [Row(key) for key in range(300_000)]
    index = {row.name: row for row in rows}
    assert len(index) == len(rows)


main()
