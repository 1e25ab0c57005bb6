"""The GPUs or workers that a cohort's driver can use at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from ddip_ray.engine.ray import resources
from ddip_ray.errors import InputError


@dataclass(frozen=True)
class Slots:
    """Places to compute: GPUs, or workers of a core each.

    Attributes:
        number: How many there are.
        on_gpus: Whether a slot is a GPU.
        num_threads: Threads of each worker.
        memory: Bytes of memory that each slot has.
    """

    number: int
    on_gpus: bool
    num_threads: int
    memory: int

    @classmethod
    def asked_for(cls, num_workers: int | None, num_gpus: int | None) -> Slots:
        """The slots for a number of workers or of GPUs; without either all GPUs or, without any, all cores.

        Raises:
            InputError: both are given, or there are fewer GPUs.
        """
        if num_workers is not None and num_gpus is not None:
            raise InputError("`num_gpus` and `num_workers` are both given", "One worker drives one GPU")
        if num_workers is None and num_gpus is None:
            num_gpus = resources.num_gpus() or None
        if num_gpus is not None:
            resources.require_gpus(num_gpus)
            return cls(num_gpus, True, 1, resources.gpu_bytes())
        cores = resources.num_cores()
        number = num_workers or cores
        return cls(number, False, max(1, cores // number), resources.total_host_bytes() // number)
