"""The check whether Ray connects at all, made in a process of its own.

If the cluster has another version of Ray, or is stuck, `ray.init` may fail, wait for minutes or end the
process.
"""

from __future__ import annotations

import os
import subprocess
import sys

from ddip_ray.doctor.findings import Finding
from ddip_ray.doctor.versions import judge_refusal
from ddip_ray.engine.ray.cluster import connected
from ddip_ray.errors import InputError

_NOBODY, _REFUSED = 3, 4  # exit codes
_NOBODY_WORDS = "no Ray cluster answers"  # from the error of `connected`


def check_connection(address: str, patience: float) -> list[Finding]:
    """Try to connect to the cluster at ``address``.

    Args:
        address: the address of the cluster.
        patience: seconds to wait.

    Returns:
        Nothing if Ray connects, otherwise one finding that says why it does not.

    Raises:
        InputError: nobody listens at the address.
    """
    command = [sys.executable, "-m", __name__]
    environment = {**os.environ, "RAY_ADDRESS": address}
    try:
        tried = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        return [judge_refusal(address, f"no answer for {patience:.0f} s")]
    if tried.returncode == 0:
        return []
    if tried.returncode == _NOBODY:
        raise InputError(*tried.stdout.split("\n", 1))
    last = (tried.stderr.strip() or f"exit code {tried.returncode}").splitlines()[-1]
    return [judge_refusal(address, tried.stdout.strip() if tried.returncode == _REFUSED else last)]


def _try() -> int:
    try:
        with connected(1):
            return 0
    except InputError as error:
        if error.message.startswith(_NOBODY_WORDS) or error.__cause__ is None:
            print(error.message, error.hint, sep="\n", end="")
            return _NOBODY
        print(str(error.__cause__) or type(error.__cause__).__name__)
        return _REFUSED


if __name__ == "__main__":
    sys.exit(_try())
