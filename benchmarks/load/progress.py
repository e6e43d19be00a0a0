"""A progress bar on stderr while a load runs; nothing where stderr is no terminal."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how many requests are done and how many of them failed. `total` None: not known."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda num_done, num_failed: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    failures = TextColumn("[red]{task.fields[failed]}")
    with Progress(*columns, TimeElapsedColumn(), failures, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, failed="")

        def show(num_done: int, num_failed: int) -> None:
            progress.update(task, completed=num_done, failed=f"{num_failed} failed" if num_failed else "")

        yield show
