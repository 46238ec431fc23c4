"""Programs that try the stack capture where frames are pushed, suspended, moved and unwound in unusual ways.

MEMHEFT_CHECK=1 compares each stack with a walk over all frames.  tools/check_stacks.py does the same with
other projects' tests, for much longer.
"""

from __future__ import annotations

import importlib.util

import pytest
from conftest import Workplace
from recording_tools import FLAG_CONTRADICTION, FLAG_FULL_WALK, record

RECURSION = """
    import functools, sys
    def plain(n):
        kept = [n] * 3
        return len(kept) + (plain(n - 1) if n else 0)
    def through_c(n):
        return [n, *map(through_c, [n - 1])] if n else []
    class Node:
        def __init__(self, n):
            self.next = Node(n - 1) if n else None
        def __repr__(self):
            return f"<{self.next!r}>"
        def __eq__(self, other):
            return [self.next] == [other.next]
        def __getattr__(self, name):
            return (lambda: name * 2)()
    def even(n):
        return odd(n - 1, x=[n]) if n else str(n)
    def odd(n, **kept):
        return even(n - 1) if n else str(n)
    for _ in range(3):
        assert plain(900) == 2703
        assert even(900) == "0"
        through_c(60)
        node = Node(60)
        repr(node), node == Node(60), node.missing
        functools.reduce(lambda a, b: (a, [b]), range(900))
    def endless():
        return [endless()]
    try:
        endless()
    except RecursionError:
        kept = [object() for _ in range(100)]
"""

GENERATORS = """
    def count(n):
        for i in range(n):
            yield [i]
    def inner(n):
        got = yield from count(n)
        return [got, n]
    def outer(n):
        for i in range(n):
            result = yield from inner(i)
            yield str(result) * 2
    def tree(depth):
        if depth:
            yield from tree(depth - 1)
            yield [depth]
            yield from tree(depth - 1)
    assert len(list(outer(40))) == 40 + 40 * 39 // 2
    assert len(list(tree(9))) == 511
    living = [outer(5) for _ in range(2000)]
    for _ in range(4):
        for generator in living:
            next(generator)
    def echo():
        got = None
        try:
            while True:
                got = yield [got, str(got)]
        except ValueError as error:
            yield [str(error)] * 5
        finally:
            kept = [0] * 30
    for i in range(300):
        generator = echo()
        next(generator)
        generator.send(i)
        if i % 3 == 0:
            generator.throw(ValueError(str(i)))
        elif i % 3 == 1:
            generator.close()
    def empty(n):
        kept = [str(n)] * 2
        return kept
        yield
    def loops(a, b, c):
        for x in a:
            pass
        for x in b:
            pass
        for x in c:
            pass
    def fails(n):
        kept = [str(n)] * 2
        raise ValueError
        yield
    def unwound(a, b):
        try:
            for x in (1,):
                for y in a:
                    pass
        except:
            pass
        for x in (1,):
            for y in b:  # over a slot that nobody has written to since
                pass
        return
        yield
    for i in range(50):
        loops(empty(i), empty(i), empty(i))
        list(unwound(fails(i), empty(i)))
    deep = iter([1, 2, 3])
    for _ in range(300):
        deep = (str(x) + "." for x in deep)
    assert len(list(deep)) == 3
    {str(x): [y for y in count(3)] for x in (z * 2 for z in range(50))}
    max(([str(x)] for x in range(50)), key=lambda x: next(count(len(x))))
"""

COROUTINES = """
    import asyncio, contextlib, types
    async def deep(n):
        if n:
            return [await deep(n - 1)]
        await asyncio.sleep(0)
        return [n]
    async def numbers(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield [i]
    async def relay(n):
        async for x in numbers(n):
            yield x + [str(x)]
    @contextlib.asynccontextmanager
    async def opened():
        kept = [0] * 10
        await asyncio.sleep(0)
        try:
            yield kept
        finally:
            await asyncio.sleep(0)
            kept.append(str(kept))
    class Awaitable:
        def __await__(self):
            kept = [1, 2, 3]
            yield
            return kept + kept
    async def late(n):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            kept = [str(i) for i in range(n)]
            raise
    async def work(n):
        await deep(n)
        async with opened() as kept:
            kept.append([x async for x in relay(5)])
        return [await Awaitable() for _ in range(3)]
    async def main():
        await deep(400)
        await asyncio.gather(*(work(n) for n in range(60)))
        tasks = [asyncio.create_task(late(n)) for n in range(60)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        half = relay(10)
        await anext(half)
        await half.aclose()
        await asyncio.to_thread(lambda: [str(i) for i in range(100)])
    asyncio.run(main())
    coroutine = deep(5)
    coroutine.send(None)
    coroutine.close()
    @types.coroutine
    def pause():
        yield
    async def bottom():
        while True:
            try:
                await pause()
            except ValueError:
                kept = [bytearray(100) for _ in range(50)]
    async def middle():
        await bottom()
    async def top():
        await middle()
    thrown = top()
    thrown.send(None)
    def here():
        for _ in range(50):
            thrown.throw(ValueError)
    def there():
        for _ in range(50):
            thrown.throw(ValueError)
    here(), there()  # throw() links the chain by hand, each time under another caller
    class Nothing:
        def __await__(self):
            return iter(())
    async def wait_for(awaitables):
        for awaitable in awaitables:  # each value of an inline cache comes before the yield
            await awaitable
    for n in range(256, 290):
        thrown = wait_for([*(Nothing() for _ in range(n)), middle()])
        thrown.send(None)
        here(), there()
"""

EXCEPTIONS = """
    import contextlib, sys, traceback
    class Odd(Exception):
        def __init__(self, *args):
            self.kept = [args] * 3
            super().__init__(*args)
    def fail(n):
        if n == 0:
            raise Odd(str(n))
        try:
            fail(n - 1)
        except Odd as error:
            if n % 3 == 0:
                raise KeyError([n]) from error
            raise
        except KeyError as error:
            raise Odd(n, error.__cause__) from None
        finally:
            kept = [n] * 5
    kept = []
    for n in range(40):
        try:
            fail(n)
        except (Odd, KeyError) as error:
            kept.append(error.__traceback__)
            kept.append(traceback.format_exc())
            kept.append(sys.exc_info())
    for trace in kept[::3]:
        while trace is not None:
            kept.append(trace.tb_frame.f_lineno)
            kept.append(dict(trace.tb_frame.f_locals))
            trace.tb_frame.f_back
            trace = trace.tb_next
    @contextlib.contextmanager
    def managed():
        try:
            yield [1]
        except Odd as error:
            kept.append(str(error))
    for _ in range(50):
        with managed() as a, managed() as b, contextlib.suppress(Odd):
            fail(2)
    try:
        raise ExceptionGroup("several", [Odd(1), ValueError(2), ExceptionGroup("more", [Odd(3)])])
    except* Odd as group:
        kept.append([str(error) for error in group.exceptions])
    except* ValueError as group:
        kept.append(str(group) * 2)
"""

JUMPS = """
    import sys, threading
    def program(n):
        kept = []
        kept.append(str(n))
        kept.append([n] * 3)
        for i in range(2):
            kept.append({i: str(i)})
        kept.append(str(kept))
        return kept
    first = program.__code__.co_firstlineno
    def jumping(source, target):
        done = []
        def local(frame, event, argument):
            kept = [frame.f_lineno, str(event), dict(frame.f_locals)]
            if event == "line" and frame.f_lineno == first + source and not done:
                done.append(1)
                # in one line: a new one would make the frame forget its stamp
                kept = [object(), setattr(frame, "f_lineno", first + target), object(), str(kept)]
            return local
        return lambda frame, event, argument: local if frame.f_code is program.__code__ else None
    def callee(n):
        return [n, str(n)] + (callee(n - 1) if n else [])
    for source, target in ((3, 2), (2, 3), (3, 6), (6, 1), (4, 6), (6, 2)):
        for _ in range(3):
            sys.settrace(jumping(source, target))
            try:
                program(5)
            except UnboundLocalError:
                pass
            finally:
                sys.settrace(None)
            program(5)
    def idle(n):
        for i in range(n):
            pass
            if i:
                pass
                pass
    def lines(frame, event, argument):
        kept = [str(event)] * 2
        return lines
    sys.settrace(lines)
    idle(50)
    sys.settrace(None)
    def opcodes(frame, event, argument):
        frame.f_trace_opcodes = True
        kept = [str(event)] * 2
        return opcodes
    def switching(n):
        sys.settrace(opcodes if n % 2 else None)
        sys._getframe().f_trace = opcodes
        kept = callee(20)
        sys.settrace(None)
        return kept + [n]
    for n in range(10):
        switching(n)
    sys.setprofile(lambda frame, event, argument: [str(event), frame.f_lineno])
    callee(50), sorted(range(9), key=str), [str(x) for x in (y for y in range(9))]
    sys.setprofile(None)
    if hasattr(sys, "monitoring"):
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(3, "test")
        sys.monitoring.register_callback(3, events.LINE, lambda code, line: [line] and None)
        sys.monitoring.register_callback(3, events.PY_START, lambda code, offset: str(offset) and None)
        sys.monitoring.set_events(3, events.LINE | events.PY_START)
        callee(50), program(3)
        sys.monitoring.set_events(3, 0)
        sys.monitoring.free_tool_id(3)
        callee(50), program(3)
"""

CALLBACKS = """
    import functools, gc, re, weakref
    class Key:
        def __init__(self, value):
            self.value = [value]
        def __lt__(self, other):
            return str(self.value) < str(other.value)
        def __hash__(self):
            return hash(str(self.value))
        def __eq__(self, other):
            return [self.value] == [other.value]
    keys = [Key(i * 7919 % 997) for i in range(300)]
    sorted(keys), min(keys), {key: str(key) for key in keys}
    sorted(keys, key=lambda key: Key(str(key.value)))
    sorted(keys, key=functools.cmp_to_key(lambda a, b: len(str(a.value)) - len(str(b.value))))
    re.sub("[0-9]", lambda match: str([match[0]]), "1 2 3 4 5 6 7 8 9" * 20)
    kept = []
    class Dying:
        def __init__(self, n):
            self.me, self.n = self, n
        def __del__(self):
            kept.append([str(self.n)] * 2)
            if self.n:
                Dying(self.n - 1)
                list(str(x) for x in range(3))
    weak = []
    for i in range(300):
        dying = Dying(i % 5)
        weak.append(weakref.ref(dying, lambda reference: kept.append([reference, str(reference)])))
        if i % 50 == 0:
            gc.collect()
    del dying
    gc.callbacks.append(lambda phase, info: kept.append([phase, str(info)]))
    def running():
        for i in range(50):
            yield [Dying(2), i]
            gc.collect()
    list(running())
    gc.set_threshold(1)
    for i in range(200):
        Dying(1)
    class Meta(type):
        def __prepare__(name, bases):
            return {"kept": [name]}
        def __call__(cls, *args):
            return [super().__call__(*args)]
    class Described:
        def __get__(self, owner, kind):
            return [kind, str(owner)]
        def __set_name__(self, owner, name):
            self.name = [name]
    for i in range(50):
        made = Meta(f"C{i}", (), {"x": Described()})()[0]
        made.x, exec("a = [str(i) for i in range(5)]"), eval("[lambda: 1]")[0]()
"""

KEPT_FRAMES = """
    import gc, sys
    kept = []
    def generate(n):
        try:
            while True:
                kept.append(bytes(100))
                yield n
        finally:
            kept.append(bytes(200))  # also when it is collected
    def catch(depth):
        try:
            if depth:
                catch(depth - 1)
            1 / 0
        except ZeroDivisionError as error:
            kept.append(error.__traceback__)
            kept.append(sys._getframe())
            raise KeyError(depth)
    def throw(n):
        generator = generate(n)
        next(generator)
        try:
            generator.throw(KeyError(n))
        except KeyError:
            kept.append(generate(n))
        generator.close()
    class Finaliser:
        def __del__(self):
            kept.append([bytes(300), sys._getframe().f_back])
    for n in range(100):
        try:
            catch(8)
        except KeyError:
            throw(n)
        cycle = [Finaliser()]
        cycle.append(cycle)
        started = generate(n)
        next(started)
        del started, cycle
        gc.collect(0)
"""

THREADS = """
    import queue, sys, threading
    sys.setswitchinterval(1e-6)
    def count(n):
        for i in range(n):
            yield [str(i)]
    def work(n, depth=0):
        if depth < 30:
            return work(n, depth + 1) + [depth]
        kept = []
        for x in count(3000):
            kept.append(x)
            if len(kept) > 50:
                kept = [str(y) for y in kept[:3]]
        return kept
    def passing(source, target):
        while (item := source.get()) is not None:
            target.put([item, str(len(item))][:1] + [sys._getframe().f_lineno])
        target.put(None)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    queues = [queue.SimpleQueue() for _ in range(5)]
    threads += [threading.Thread(target=passing, args=queues[i : i + 2]) for i in range(4)]
    shared = count(100000)
    lock = threading.Lock()
    def sharing():
        for _ in range(2000):
            with lock:
                next(shared)
    threads += [threading.Thread(target=sharing) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(300):
        queues[0].put([i])
        short = threading.Thread(target=lambda: [str(x) for x in range(5)])
        short.start()
        short.join()
    queues[0].put(None)
    for thread in threads:
        thread.join()
"""

GREENLETS = """
    import greenlet, sys
    def deep(n, other):
        kept = [n] * 3
        if n:
            return deep(n - 1, other) + kept
        return other.switch([str(n)]) or kept
    def inside(generator):
        for x in generator:
            main.switch([x])
        return [0]
    def numbers(n):
        for i in range(n):
            main.switch(str(i))
            yield [i]
    main = greenlet.getcurrent()
    living = [greenlet.greenlet(deep) for _ in range(50)]
    for depth, one in enumerate(living):
        one.switch(depth, main)
    for _ in range(3):
        for one in living:
            one.switch(sorted([str(x) for x in range(5)], key=lambda x: [x]))
    for _ in range(20):
        one = greenlet.greenlet(inside)
        one.switch(numbers(10))
        while not one.dead:
            one.switch()
    left = [greenlet.greenlet(deep) for _ in range(20)]
    for one in left:
        one.switch(30, main)
    del one, left
    def failing(n):
        if n:
            return failing(n - 1)
        main.switch()
        raise ValueError([n])
    for _ in range(20):
        one = greenlet.greenlet(failing)
        one.switch(20)
        try:
            one.throw(KeyError, [1])
        except KeyError as error:
            kept = [str(error)] * 2
    def traced(frame, event, argument):
        kept = [str(event)]
        return traced
    sys.settrace(traced)
    one = greenlet.greenlet(deep)
    one.switch(20, main)
    sys.settrace(None)
    one.switch([1])
"""

PROGRAMS = {
    "recursion": RECURSION,
    "generators": GENERATORS,
    "coroutines": COROUTINES,
    "exceptions": EXCEPTIONS,
    "jumps": JUMPS,
    "callbacks": CALLBACKS,
    "kept frames": KEPT_FRAMES,
    "threads": THREADS,
    "greenlets": GREENLETS,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_stamps_agree_with_walks(name: str, workplace: Workplace) -> None:
    if name == "greenlets" and importlib.util.find_spec("greenlet") is None:
        pytest.skip("greenlet is not installed")
    text = "if True:\n" + PROGRAMS[name]
    header = record(workplace, text, environment={"MEMHEFT_CHECK": "1"}).header
    assert header["check_compared"] > 5000
    assert header["check_mismatches"] == 0
    assert header["flags"] & (FLAG_CONTRADICTION | FLAG_FULL_WALK) == 0
    assert header["lost_events"] == header["cut_events"] == 0
