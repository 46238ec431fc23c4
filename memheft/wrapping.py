"""Functions of every kind with a context manager around what they run."""

from __future__ import annotations

import functools
import types

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractContextManager
    from typing import Any, TypeVar

    Manager = AbstractContextManager[object, bool | None]
    Function = TypeVar(
        "Function", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]"
    )

# of code objects, as in inspect, which is a large import
GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200


def wrap(function: Function, manager: Manager, *, stepwise: bool, name: str) -> Function:
    """Make a function that runs `function` inside `manager`, which is entered anew each time.

    Generators are inside from their first step to their end or close, or, `stepwise`, only while they run and
    not while they wait at a yield. Of a staticmethod or classmethod the function is wrapped. `name` is what
    the decorator is called; TypeError if it is given a class or what is no function.
    """
    made: Any
    if isinstance(function, (staticmethod, classmethod)):
        inner: Any = function.__func__
        made = type(function)(wrap(inner, manager, stepwise=stepwise, name=name))
        return made  # type: ignore[no-any-return]
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{name} decorates functions, not {function!r}")
    flags = _flags_of(function)
    if flags & ASYNC_GENERATOR:
        made = _async_generator(function, *((_nothing, manager) if stepwise else (manager, _nothing)))
    elif flags & COROUTINE:
        made = _coroutine(function, manager)
    elif flags & GENERATOR:
        made = _steps(function, manager) if stepwise else _generator(function, manager)
    else:
        made = _plain(function, manager)
    return functools.wraps(function)(made)  # type: ignore[return-value]


def _flags_of(function: Any) -> int:
    """What kind of function it is; of a callable object, what its call is."""
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code.co_flags if code is not None else 0


class _Nothing:
    """A context that is none."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_error: object) -> None: ...


_nothing = _Nothing()


def _plain(function: Callable[..., Any], manager: Manager) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with manager:
            return function(*args, **kwargs)

    return wrapper


def _coroutine(function: Callable[..., Any], manager: Manager) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with manager:
            return await function(*args, **kwargs)

    return wrapper


def _generator(function: Callable[..., Any], manager: Manager) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with manager:
            return (yield from function(*args, **kwargs))

    return wrapper


# What is passed on waits in `box` and nowhere else: a local variable would keep it alive while the generator
# waits, and an exception together with the frames of its traceback.


def _steps(function: Callable[..., Any], manager: Manager) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        resume = generator.send
        box: list[Any] = [None]
        while True:
            try:
                with manager:
                    box.append(resume(box.pop()))
            except StopIteration as end:
                return end.value
            try:
                box.append((yield box.pop()))
            except GeneratorExit:
                with manager:
                    generator.close()
                raise
            except BaseException as error:
                box.append(error)
                resume = generator.throw
            else:
                resume = generator.send

    return wrapper


def _async_generator(function: Callable[..., Any], outer: Manager, inner: Manager) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with outer:
            generator = function(*args, **kwargs)
            resume = generator.asend
            box: list[Any] = [None]
            try:
                while True:
                    try:
                        with inner:
                            box.append(await resume(box.pop()))
                    except StopAsyncIteration:
                        return
                    try:
                        box.append((yield box.pop()))
                    except GeneratorExit:
                        raise  # the generator is closed below
                    except BaseException as error:
                        box.append(error)
                        resume = generator.athrow
                    else:
                        resume = generator.asend
            finally:
                with inner:
                    await generator.aclose()

    return wrapper
