"""An async program: workers, queues, locks, timeouts, async generators: a service without its sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def transaction(lock: asyncio.Lock) -> AsyncIterator[dict[str, int]]:
    async with lock:
        await asyncio.sleep(0)
        yield {}


async def pages(request: int) -> AsyncIterator[list[str]]:
    for page in range(4):
        await asyncio.sleep(0)
        yield [f"{request}/{page}/{n}" for n in range(20)]


async def handle(request: int, lock: asyncio.Lock) -> int:
    found: dict[str, int] = {}
    async for page in pages(request):
        found.update((line, len(line)) for line in page)
    async with transaction(lock) as state:
        state["request"] = request
    return len(found)


async def worker(queue: "asyncio.Queue[int]", locks: list[asyncio.Lock]) -> None:
    while True:
        request = await queue.get()
        try:
            await asyncio.wait_for(handle(request, locks[request % len(locks)]), timeout=60)
        finally:
            queue.task_done()


async def main() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=500)
    locks = [asyncio.Lock() for _ in range(10)]
    workers = [asyncio.create_task(worker(queue, locks)) for _ in range(200)]
    for request in range(7000):
        await queue.put(request)
    await queue.join()
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


asyncio.run(main())
