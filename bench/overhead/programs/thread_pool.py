"""Many threads: a pool of eight at work on small tasks, then 3,000 threads that live for one task each."""

import threading
from concurrent.futures import ThreadPoolExecutor


def task(n: int) -> int:
    parts = [f"{n}:{i}" for i in range(100)]
    lookup = {part: len(part) for part in parts}
    return sum(lookup.values()) + len(bytes(4000))


def main() -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        total = sum(pool.map(task, range(12_000)))
    assert total > 0
    for start in range(0, 3000, 30):
        threads = [threading.Thread(target=task, args=(n,)) for n in range(start, start + 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


main()
