"""A pool of threads that share a list of tasks.

numba's ``prange`` is not used. Its threading layers share no pool with torch, the default one aborts when two
Python threads enter it, and the OpenMP one does not survive a fork. Our kernels release the GIL, so plain
Python threads suffice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ddip_ray.numerics.cores import own_cores

Task = Callable[[], None]

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def run_tasks(tasks: Sequence[Task], num_threads: int) -> None:
    """Run all tasks on the calling thread and up to ``num_threads − 1`` others; return when all are done.

    Tasks must be independent of each other, because their order and threads are not fixed. The first
    exception of a task is raised here.
    """
    queue = iter(tasks)  # next() on a list iterator is one step under the GIL
    num_helpers = min(num_threads, len(tasks)) - 1
    if num_helpers < 1:
        _drain(queue)
        return
    pool = _pool()
    helpers = [pool.submit(_drain, queue) for _ in range(num_helpers)]
    try:
        _drain(queue)
    finally:
        for helper in helpers:
            helper.result()


def ranges(count: int, num_threads: int) -> list[tuple[int, int]]:
    """Return 0 ... count in pieces (start, stop), a few for each thread, to even out their speeds."""
    size = max(1, -(-count // (4 * num_threads)))
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _drain(queue: Iterator[Task]) -> None:
    for task in queue:
        task()


def _pool() -> ThreadPoolExecutor:
    # Keyed by process: a forked child inherits the object but none of its threads.
    with _lock:
        pid = os.getpid()
        if pid not in _pools:
            _pools.clear()
            _pools[pid] = ThreadPoolExecutor(max_workers=own_cores(), thread_name_prefix="projector")
        return _pools[pid]


def _forget_after_fork() -> None:
    # The parent may have held the lock at the fork; the child must not wait for it.
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
