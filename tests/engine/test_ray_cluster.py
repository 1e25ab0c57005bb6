"""Joining a cluster that is named."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray

from ddip_ray.engine.ray import cluster as ray_cluster
from ddip_ray.engine.ray.cluster import connected, reason
from ddip_ray.errors import InputError

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # a frame of HTTP/2
FAILED = (
    "Initialization failure from server:\nTraceback (most recent call last):\n"
    '  File "proxier.py", line 780, in Datapath\n    raise RuntimeError(\nRuntimeError: Proxy failed\n'
)


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Gives whoever connects an ``answer``, or none."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(64)
            if answer is not None:
                self.request.sendall(answer)
                return
            self.request.recv(64)  # until the other side is gone

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of what begins like a cluster."""
    with server(SETTINGS) as where:
        monkeypatch.setenv("RAY_ADDRESS", f"ray://{where}")
        yield f"ray://{where}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n", "what answers at {} is no Ray cluster"),
        (b"", "what answers at {} is no Ray cluster"),
        (None, "no Ray cluster answers at {} (timed out)"),
    ],
)
def test_a_port_that_is_not_rays(answer: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which Ray itself would wait for an answer without end."""
    monkeypatch.setattr(ray_cluster, "ANSWER_TIMEOUT", 0.5)
    with server(answer) as where:
        monkeypatch.setenv("RAY_ADDRESS", where)
        with pytest.raises(InputError, match=re.escape(words.format(where))), connected(1):
            pass


def refusing(times: int, calls: list[str]) -> Any:
    def init(address: str, **options: Any) -> None:
        calls.append(address)
        if len(calls) <= times:
            raise ConnectionAbortedError(FAILED)

    return init


def test_a_head_that_fails_twice_is_tried_again(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ray, "init", refusing(2, calls))
    with connected(1):
        pass
    assert calls == [address] * 3


def test_a_head_that_keeps_failing_is_named_with_what_it_says(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ray, "init", refusing(9, calls))
    words = f"{address} cannot be used: Initialization failure from server: RuntimeError: Proxy failed"
    with pytest.raises(InputError, match=re.escape(words)), connected(1):
        pass
    assert len(calls) == 3


def test_all_lines_of_a_reason_are_kept() -> None:
    versions = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.9\nThis process with:\n    Ray: 2.58\n"
    )
    expected = "Version mismatch: The cluster was started with: Ray: 2.9 This process with: Ray: 2.58"
    assert reason(RuntimeError(versions)) == expected
