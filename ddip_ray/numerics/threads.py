"""A context in which torch computes on one thread, so that bits do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run CPU convolutions, their gradients and Fourier transforms on one thread.

    They split their sums by threads, so another number of threads gives other last bits, which a truncated CG
    amplifies. With one thread a slice has the same bits in every layout; more cores are used by more workers.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
