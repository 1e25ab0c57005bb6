"""Connection to a Ray cluster: the one at ``RAY_ADDRESS``, or a new one of this machine alone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ddip_ray
from ddip_ray.errors import InputError
from ddip_ray.numerics.cores import own_cores

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # a private cluster on this machine; a shared one sets its own token
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_CONNECT_TIMEOUT, ANSWER_TIMEOUT = 10.0, 30.0  # seconds
# How both sides of HTTP/2 begin (RFC 9113, 3.4): with settings, here none; the client with a preface, too.
_PREFACE, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x04"
_FRAME = b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
_TRIES = 3
_TRACEBACK = "Traceback (most recent call last):"
_HINT = (
    "Set RAY_ADDRESS as `ray start` printed it, and RAY_AUTH_TOKEN if the cluster has one; "
    "without RAY_ADDRESS this machine computes."
)


def cluster_address() -> str | None:
    """The address of the cluster to use, from ``RAY_ADDRESS``; None: this machine alone."""
    return os.environ.get("RAY_ADDRESS") or None


@contextlib.contextmanager
def connected(num_cpus: int) -> Iterator[None]:
    """Connect to the cluster at ``RAY_ADDRESS`` or, without one, start Ray on this machine.

    An existing connection is used, and stays open.

    Args:
        num_cpus: cores that a Ray started here has at least; workers take one each.

    Raises:
        InputError: no cluster answers at the address, or it refuses the connection.
    """
    address = cluster_address()
    for name, value in QUIET.items():
        if name != "RAY_AUTH_MODE" or address is None:
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # The object store carries only control messages: no volume passes through it.
        quiet |= {"include_dashboard": False, "object_store_memory": 100 * 2**20}
        quiet["num_cpus"] = max(num_cpus, own_cores())
    else:
        _require_ray(address)
        # The cluster's machines may have another version of this program, or none.
        quiet["runtime_env"] = {"py_modules": [str(Path(ddip_ray.__file__).parent)]}
    with _own_signal_handlers():
        try:
            _join(address or "local", quiet)  # "local" ignores a cluster that already runs here
        except (ray.exceptions.RayError, OSError, ValueError, RuntimeError) as error:
            if address is None:
                raise
            raise InputError(
                f"the Ray cluster at {address} cannot be used: {reason(error)}", _HINT
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_ray(address: str) -> None:
    """Fail early if nothing that speaks gRPC answers at ``address``; `ray.init` would wait forever."""
    where = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = where.hostname, where.port
        if host is None or port is None:  # a name, like auto
            return
        answer = _answer(host, port)
    except (OSError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at {address} ({error})", _HINT) from error
    if answer[3:4] != _SETTINGS:
        raise InputError(f"what answers at {address} is no Ray cluster", _HINT)


def _answer(host: str, port: int) -> bytes:
    """The first bytes with which the server answers an HTTP/2 client; Ray's clients speak HTTP/2."""
    with socket.create_connection((host, port), _CONNECT_TIMEOUT) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return _FRAME  # an encrypted server cannot be asked
        connection.settimeout(ANSWER_TIMEOUT)
        connection.sendall(_PREFACE + _FRAME)
        with connection.makefile("rb") as answers:
            return answers.read(len(_FRAME))


def reason(error: Exception) -> str:
    """The message of an error in one line; a traceback from the cluster is cut to its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if _TRACEBACK in lines:
        lines = lines[: lines.index(_TRACEBACK)] + lines[-1:]
    return " ".join(lines)


def _join(address: str, options: dict[str, Any]) -> None:
    """Connect. A head node may fail to start its server for clients, so a lost connection is tried again."""
    import ray

    for tries_left in reversed(range(_TRIES)):
        try:
            ray.init(address=address, **options)
            return
        except ConnectionAbortedError:
            if tries_left == 0:
                raise


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep our handler of SIGTERM, with which clusters announce the end of a job; Ray would replace it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
