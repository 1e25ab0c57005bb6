"""A command as a Slurm job: a Ray cluster on the job's nodes, in one script."""

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

_OBJECT_STORE_BYTES = 200 * 2**20  # of control messages; no volume passes through it
_LONGEST_SESSION = 40  # characters; Ray adds some sixty, and sockets' paths end at 107
_GOES_ON = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD")
_FACT = re.compile(r"(\S+?)=(.*?)(?=\s+[\w:/]+=|\s*$)", re.MULTILINE)  # NAME=VALUE, which may have spaces
Line = Annotated[str, Field(pattern=r"^[^\n]+$")]
Word = Annotated[str, Field(pattern=r"^[^\s#]+$")]


class SlurmSite(Site):
    """See deploy/slurm/site.example.yaml."""

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
    """What one user wants of a site: ``jobs`` clusters of ``nodes`` nodes each."""

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
                "neither --gpus-per-node nor --cpus-per-node", "Say what each node is to give to the job."
            )
        if self.cpus_per_node is not None and self.cpus_per_node < self.gpus_per_node:
            raise InputError(
                f"--cpus-per-node {self.cpus_per_node} for {self.gpus_per_node} GPUs",
                "Every GPU needs a core, at least.",
            )
        if self.jobs > 1 and not self.command.name.startswith("cohort"):
            raise InputError(
                f"--jobs {self.jobs}: several jobs share the volumes of a cohort, not a {self.command.name}",
                "Use --nodes.",
            )
        if re.fullmatch(r"[\w.-]+", self.name) is None:
            raise InputError(f"--name {self.name!r}: expected letters, digits, dots, dashes, underscores")
        if self.time is not None and re.fullmatch(r"[\d:-]+", self.time) is None:
            raise InputError(f"--time {self.time!r}: expected minutes, or days-hours:minutes:seconds")


def render(request: SlurmRequest, site: SlurmSite, exit_can_resume: int) -> str:
    """The job's script; ``exit_can_resume`` is what the command answers when it has left a snapshot."""
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
    """That was submitted."""

    number: str

    @classmethod
    def submit(cls, script: str, log_folder: Path) -> SlurmJob:
        """Hand ``script`` to sbatch.

        Raises:
            InputError: there is no Slurm here, or it refuses.
        """
        log_folder.mkdir(parents=True, exist_ok=True)  # Slurm drops what it cannot write
        return cls(_slurm("sbatch", "--parsable", input=script).partition(";")[0])

    def facts(self) -> dict[str, str]:
        """What Slurm says of it, as ``scontrol show job`` names it."""
        return dict(_FACT.findall(_slurm("scontrol", "show", "job", self.number)))

    def follow(self, write: Callable[[str], None], wait: Callable[[], None]) -> int:
        """Until it has ended, passing on what it writes; its exit code.

        ``wait`` is called between two looks at it.
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
            "Launch where Slurm's commands are, or use --dry-run.",
        ) from error
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout).strip().removeprefix(f"{command[0]}: ")
        raise InputError(f"{shlex.join(command)} failed: {words}") from error
    return done.stdout.strip()
