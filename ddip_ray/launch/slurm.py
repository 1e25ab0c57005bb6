"""Slurm jobs: one script starts a Ray cluster on the job's nodes and runs a command on it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from ddip_ray import __version__
from ddip_ray.errors import InputError
from ddip_ray.launch.command import LaunchedCommand
from ddip_ray.launch.site import Site

_OBJECT_STORE_BYTES = 200 * 2**20  # for control messages; no volume passes through it
_LONGEST_SESSION = 40  # characters; Ray adds about sixty, and paths of sockets have at most 107
_GOES_ON = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD")
_FACT = re.compile(r"(\S+?)=(.*?)(?=\s+[\w:/]+=|\s*$)", re.MULTILINE)  # NAME=VALUE, which may have spaces
Line = Annotated[str, Field(pattern=r"^[^\n]+$")]
Word = Annotated[str, Field(pattern=r"^[^\s#]+$")]


class SlurmSite(Site):
    """A cluster with Slurm; deploy/slurm/site.example.yaml explains each setting."""

    setup: tuple[Line, ...] = ()
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    gpu_type: Word | None = None
    memory_per_node: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = None
    time: Annotated[str, Field(pattern=r"^[\d:-]+$")] | None = None
    directives: tuple[Annotated[str, Field(pattern=r"^-[^\n]+$")], ...] = ()
    cpus_per_gpu: PositiveInt = 4
    interface: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None
    temp_dir: Annotated[str, Field(pattern=r"^/[\w./-]+$", max_length=_LONGEST_SESSION - 20)] = "/tmp"
    log_folder: Annotated[str, Field(pattern=r"^\S+$")] = "."
    warning_seconds: PositiveInt = 120
    start_seconds: PositiveInt = 300
    requeue: bool = True


@dataclass(frozen=True)
class SlurmRequest:
    """A user's request to a site.

    Attributes:
        command: the command to run.
        nodes: number of nodes of each job.
        gpus_per_node: GPUs of each node.
        cpus_per_node: cores of each node; None: the site's ``cpus_per_gpu`` for each GPU.
        time: limit in Slurm's notation; None: the site's.
        name: name of the job and its log.
        jobs: number of jobs, which share the volumes of a cohort.
    """

    command: LaunchedCommand
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int | None = None
    time: str | None = None
    name: str = "ddip-ray"
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.gpus_per_node == 0 and self.cpus_per_node is None:
            raise InputError(
                "neither `gpus_per_node` nor `cpus_per_node`", "Say what each node gives to the job."
            )
        if self.cpus_per_node is not None and self.cpus_per_node < self.gpus_per_node:
            raise InputError(
                f"`cpus_per_node={self.cpus_per_node}` for {self.gpus_per_node} GPUs",
                "Every GPU needs at least one core.",
            )
        if self.jobs > 1 and not self.command.name.startswith("cohort"):
            raise InputError(
                f"`jobs={self.jobs}`: several jobs share the volumes of a cohort, not a {self.command.name}",
                "Use `nodes`.",
            )
        if re.fullmatch(r"[\w.-]+", self.name) is None:
            raise InputError(
                f"`name`: found {self.name!r}, expected letters, digits, dots, dashes, underscores"
            )
        if self.time is not None and re.fullmatch(r"[\d:-]+", self.time) is None:
            raise InputError(f"`time`: found {self.time!r}, expected minutes, or days-hours:minutes:seconds")


def render(request: SlurmRequest, site: SlurmSite, exit_can_resume: int) -> str:
    """The script of the job.

    Args:
        request: what the user asks for.
        site: the cluster.
        exit_can_resume: exit code of a command that was interrupted and left a snapshot.
    """
    from jinja2 import Environment, StrictUndefined

    source = (files("ddip_ray_deploy") / "slurm" / "job.sh.j2").read_text()
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)
    gpus = request.gpus_per_node
    number = "%A_%a" if request.jobs > 1 else "%j"
    script: str = template.render(
        version=__version__,
        name=request.name,
        nodes=request.nodes,
        gpus_per_node=gpus,
        gpus=f"{site.gpu_type}:{gpus}" if gpus and site.gpu_type else gpus,
        cpus_per_node=request.cpus_per_node or site.cpus_per_gpu * gpus,
        log=Path(site.log_folder) / f"{request.name}-{number}.out",
        directives=list(_directives(request, site)),
        site=site,
        setup=site.setup or [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"],
        object_store_bytes=_OBJECT_STORE_BYTES,
        command=request.command.shell,
        exit_can_resume=exit_can_resume,
    )
    return script


def _directives(request: SlurmRequest, site: SlurmSite) -> list[str]:
    named = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "mem": site.memory_per_node,
        "time": request.time or site.time,
        "array": f"0-{request.jobs - 1}" if request.jobs > 1 else None,
    }
    return [f"--{name}={value}" for name, value in named.items() if value is not None] + [*site.directives]


@dataclass(frozen=True)
class SlurmJob:
    """A job that Slurm has accepted; ``number`` is its job id."""

    number: str

    @classmethod
    def submit(cls, script: str, log_folder: Path) -> SlurmJob:
        """Hand ``script`` to sbatch and create the folder of its logs.

        Raises:
            InputError: there is no Slurm on this machine, or it refuses the script.
        """
        log_folder.mkdir(parents=True, exist_ok=True)  # Slurm drops a log that it cannot write
        return cls(_slurm("sbatch", "--parsable", input=script).partition(";")[0])

    def facts(self) -> dict[str, str]:
        """Slurm's facts about the job, by the names of ``scontrol show job``."""
        return dict(_FACT.findall(_slurm("scontrol", "show", "job", self.number)))

    def follow(self, write: Callable[[str], None], wait: Callable[[], None]) -> int:
        """Pass on what the job writes until it ends.

        Args:
            write: called with each new piece of the log.
            wait: called before each further look at the job.

        Returns:
            The exit code of the job.
        """
        read = 0
        while True:
            facts = self.facts()
            log = Path(facts["StdOut"])
            if log.exists():
                with log.open("rb") as file:
                    file.seek(read)
                    new = file.read()
                read += len(new)
                write(new.decode(errors="replace"))
            if facts["JobState"] in _GOES_ON:
                wait()
                continue
            code, _, signal = facts["ExitCode"].partition(":")
            if facts["JobState"] != "COMPLETED":
                write(f"job {self.number}: {facts['JobState']}\n")
                return int(code) or 128 + int(signal) or 1
            return 0


def _slurm(*command: str, input: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=input, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {command[0]} on this machine",
            "Launch where Slurm's commands are, or only print the script (`dry_run=True`).",
        ) from error
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout).strip().removeprefix(f"{command[0]}: ")
        raise InputError(f"{shlex.join(command)} failed: {words}") from error
    return done.stdout.strip()
