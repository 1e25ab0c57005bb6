"""One contract for the communicators of one worker, of threads and of processes."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import pytest
from workers import Threads

from ddip_ray.engine.ray.process_group import ProcessGroup, host_store
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.testing.communicator_contract import CommunicatorContract, Work

TIMEOUT = 120.0  # seconds; starting a process takes long on a busy machine


class TestAlone(CommunicatorContract):
    def on_ranks(self, work: Work) -> list[Any]:
        return [work(Alone())]


class TestThreads(CommunicatorContract):
    world_size = 3

    def on_ranks(self, work: Work) -> list[Any]:
        group, answers = Threads(self.world_size), [None] * self.world_size

        def run(rank: int) -> None:
            answers[rank] = work(group.member(rank))

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(self.world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        return answers


def member(rank: int, world_size: int, port: int, questions: Connection) -> None:
    """A process of the group, which answers until its end of the pipe is closed."""
    group = ProcessGroup(
        None,
        ("127.0.0.1", port),
        rank=rank,
        world_size=world_size,
        backend="gloo",
        timeout_seconds=TIMEOUT,
    )
    while (work := questions.recv()) is not None:
        questions.send_bytes(pickle.dumps(work(group)))


class TestProcessGroup(CommunicatorContract):
    world_size = 3
    pipes: ClassVar[list[Connection]] = []

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def processes(cls) -> Iterator[None]:
        store, port = host_store(TIMEOUT)
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(cls.world_size)]
        processes = [
            context.Process(target=member, args=(rank, cls.world_size, port, theirs))
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        cls.pipes = [ours for ours, _ in pipes]
        yield
        for ours in cls.pipes:
            ours.send(None)
        for process in processes:
            process.join(TIMEOUT)
            assert process.exitcode == 0
        del store

    def on_ranks(self, work: Work) -> list[Any]:
        for pipe in self.pipes:
            pipe.send(work)
        assert all(pipe.poll(TIMEOUT) for pipe in self.pipes)
        return [pickle.loads(pipe.recv_bytes()) for pipe in self.pipes]
