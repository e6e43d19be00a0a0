"""Programs of an interpreted Triton kernel in another order than the interpreter's, or many at a time.

A GPU promises no order among the programs of a launch. The interpreter runs one after another, from the first to the
last, and so it shows no race between them: what a program reads that another writes is always there, or never.

reversed, shuffled    one program after another
interleaved           some at a time: at each access to memory the one that is furthest behind goes on, as if all had
                      started at once, or any of them. Memory itself is in order here, so that a missing barrier or
                      fence within a program is not found.
"""

import contextvars
import inspect
import math
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import pytest
from triton.runtime import interpreter

Order = Literal["reversed", "shuffled", "interleaved"]
ORDERS: tuple[Order, ...] = get_args(Order)

AT_A_TIME = 8
"""Programs that are interleaved."""

_ACCESSES = ("create_masked_load", "create_masked_store", "create_atomic_rmw")

Place = tuple[int, int, int]


@contextmanager
def programs_in(order: Order, seed: int = 0) -> Iterator[None]:
    """Within, interpreted kernels run so."""
    chance = random.Random(seed)
    initialise = interpreter.GridExecutor.__init__

    def with_own_order(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        self.fn = _Collected(self.fn, order, chance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.GridExecutor, "__init__", with_own_order)
        yield


class _Collected:
    """In a kernel's place: lets the interpreter call it for each program, and with the last call runs all of them."""

    def __init__(self, kernel: Any, order: Order, chance: random.Random) -> None:
        self.__globals__ = kernel.__globals__
        self.__name__ = kernel.__name__
        self.__signature__ = inspect.signature(kernel)
        self._kernel = kernel
        self._order = order
        self._chance = chance
        self._places: list[Place] = []

    def __call__(self, **args: Any) -> None:
        builder = interpreter.interpreter_builder
        self._places.append(builder.grid_idx)
        if len(self._places) < math.prod(builder.grid_dim):
            return
        places = self._places[::-1]
        if self._order != "reversed":
            self._chance.shuffle(places)
        if self._order == "interleaved":
            _Interleaved(lambda: self._kernel(**args), places, self._chance).run()
            return
        for place in places:
            builder.set_grid_idx(*place)
            self._kernel(**args)


class _Interleaved:
    """Programs as threads, of which one runs: it hands over before each access to memory, and at its end."""

    def __init__(self, program: Callable[[], None], places: Sequence[Place], chance: random.Random) -> None:
        self._program = program
        self._chance = chance
        self._waiting = [self._thread(place) for place in places]
        self._live: list[threading.Thread] = []
        self._turns = {thread: threading.Semaphore(0) for thread in self._waiting}
        self._accesses = dict.fromkeys(self._waiting, 0)
        self._end = threading.Semaphore(0)
        self._faults: list[BaseException] = []

    def run(self) -> None:
        """All of them, to the end. Raises what the first of them raised."""
        builder = interpreter.interpreter_builder
        with pytest.MonkeyPatch.context() as patch:
            for name in _ACCESSES:
                patch.setattr(builder, name, self._after_a_turn(getattr(builder, name)))
            for thread in self._waiting:
                thread.start()
            threads = list(self._waiting)
            self._hand_over()
            self._end.acquire()
            for thread in threads:
                thread.join()
        if self._faults:
            raise self._faults[0]

    def _thread(self, place: Place) -> threading.Thread:
        # With the caller's context, which holds what numpy is to warn of.
        return threading.Thread(target=contextvars.copy_context().run, args=(self._one, place))

    def _one(self, place: Place) -> None:
        this = threading.current_thread()
        self._turns[this].acquire()
        interpreter.interpreter_builder.set_grid_idx(*place)
        try:
            self._program()
        except BaseException as fault:  # raised again in `run`
            self._faults.append(fault)
        self._live.remove(this)
        self._hand_over()

    def _after_a_turn(self, access: Callable[..., Any]) -> Callable[..., Any]:
        def others_first(*args: Any, **kwargs: Any) -> Any:
            builder = interpreter.interpreter_builder
            place = builder.grid_idx
            this = threading.current_thread()
            self._accesses[this] += 1
            self._hand_over()
            self._turns[this].acquire()
            builder.set_grid_idx(*place)
            return access(*args, **kwargs)

        return others_first

    def _hand_over(self) -> None:
        """Choose who goes on: it may be the one that asks."""
        while self._waiting and len(self._live) < AT_A_TIME:
            self._live.append(self._waiting.pop())
        if not self._live:
            self._end.release()
            return
        self._chance.shuffle(self._live)
        is_in_step = self._chance.random() < 0.75
        chosen = min(self._live, key=self._accesses.__getitem__) if is_in_step else self._live[0]
        self._turns[chosen].release()
