"""Functions of every kind with a context manager around what they run."""

from __future__ import annotations

import functools
import inspect
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractContextManager

    Manager = AbstractContextManager[object, bool | None]

Function = TypeVar("Function", bound="Callable[..., Any]")


def wrap(function: Function, manager: Manager, *, stepwise: bool, name: str) -> Function:
    """Make a function that runs `function` inside `manager`, which is entered anew each time.

    Generators are inside from their first step to their end or close, or, `stepwise`, only while they run and
    not while they wait at a yield. `name` is what the decorator is called; TypeError if it is given a class
    or what is no function.
    """
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{name} decorates functions, not {function!r}")
    if inspect.isasyncgenfunction(function):
        made = _async_generator(function, *((_nothing, manager) if stepwise else (manager, _nothing)))
    elif inspect.iscoroutinefunction(function):
        made = _coroutine(function, manager)
    elif inspect.isgeneratorfunction(function):
        made = _steps(function, manager) if stepwise else _generator(function, manager)
    else:
        made = _plain(function, manager)
    wrapper: Any = functools.wraps(function)(made)
    return cast("Function", wrapper)


_nothing: Manager = nullcontext()


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
