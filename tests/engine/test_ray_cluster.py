"""Joining a cluster that is named."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from ddip_ray.engine.ray_cluster import connected, reason
from ddip_ray.errors import InputError

FAILED = (
    "Initialization failure from server:\nTraceback (most recent call last):\n"
    '  File "proxier.py", line 780, in Datapath\n    raise RuntimeError(\nRuntimeError: Proxy failed\n'
)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where something listens, which is no cluster."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"ray://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        yield address


def refusing(times: int, calls: list[str]) -> Any:
    def init(address: str, **options: Any) -> None:
        calls.append(address)
        if len(calls) <= times:
            raise ConnectionAbortedError(FAILED)

    return init


def test_a_head_that_fails_once_is_tried_again(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ray, "init", refusing(1, calls))
    with connected(1):
        pass
    assert calls == [address] * 2


def test_a_head_that_keeps_failing_is_named_with_what_it_says(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ray, "init", refusing(9, calls))
    words = f"{address} cannot be used: Initialization failure from server: RuntimeError: Proxy failed"
    with pytest.raises(InputError, match=re.escape(words)), connected(1):
        pass
    assert len(calls) == 2


def test_all_lines_of_a_reason_are_kept() -> None:
    versions = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.9\nThis process with:\n    Ray: 2.58\n"
    )
    expected = "Version mismatch: The cluster was started with: Ray: 2.9 This process with: Ray: 2.58"
    assert reason(RuntimeError(versions)) == expected
