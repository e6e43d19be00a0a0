"""`deliver`: what a stream that tests iterate over does when its outputs are to be delivered."""

import asyncio
from collections.abc import AsyncIterator, Callable

from penstock_engine.client_protocol import Delivered
from penstock_engine.outputs import StepOutput


def deliver(outputs: AsyncIterator[StepOutput], take: Callable[[Delivered], None]) -> asyncio.Task[None]:
    """Give each output to `take` as it comes; the task is for the caller to keep."""

    async def pump() -> None:
        output: StepOutput | None = None
        try:
            async for output in outputs:
                take(output)
        except Exception as error:
            take(error)
        else:
            if output is None or not output.is_last:
                take(None)

    return asyncio.create_task(pump())
