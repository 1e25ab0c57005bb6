"""The cause is told from the errors that follow from it."""

from __future__ import annotations

import os
import re
import time
from typing import Any

import pytest

from ddip_ray.errors import InputError, WorkersLost

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(
    ("errors", "kind", "words"),
    [
        ([RuntimeError("Connection closed by peer"), None], WorkersLost, "worker 0 was lost"),
        (
            [RuntimeError("Connection closed by peer"), ValueError("odd")],
            RuntimeError,
            "worker 1 failed: .*odd",
        ),
        ([ValueError("odd"), InputError("no such file")], InputError, "no such file"),
        ([RuntimeError("CUDA error: an illegal memory access"), None], WorkersLost, "illegal memory"),
        ([None, "sleeps"], WorkersLost, "worker 1 does not answer"),
        ([ValueError("odd"), "dies"], WorkersLost, "worker 1 was lost"),
        ([None, None], WorkersLost, "too late"),
    ],
)
def test_the_cause_among_errors(
    errors: list[Any], kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from ddip_ray.engine.ray import failures as ray_failures

    monkeypatch.setattr(ray_failures, "SETTLE_TIMEOUT", 2.0)

    @ray.remote(num_cpus=0, max_retries=0)
    def work(error: Any) -> None:
        if error == "sleeps":
            time.sleep(600)
        if error == "dies":
            os._exit(1)
        if error is not None:
            raise error

    refs = [work.remote(error) for error in errors]
    ray.wait(refs, num_returns=sum(error != "sleeps" for error in errors), timeout=600)
    found = ray_failures.root_cause(refs)
    assert isinstance(found, kind)
    assert re.search(words, str(found))
    for ref, error in zip(refs, errors, strict=True):
        if error == "sleeps":
            ray.cancel(ref, force=True)
