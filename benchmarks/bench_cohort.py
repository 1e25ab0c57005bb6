"""A cohort on two workers: bad volumes, a driver that is killed, and how well it is packed.

    python benchmarks/bench_cohort.py

writes results/cohort.md. Twelve volumes of 4 to 15 slices are cut from the abdominal CT of ../shared/data;
the metadata of one are damaged and one has a NaN. `ddip-ray cohort run` gets SIGKILL when some are done, and
`ddip-ray cohort resume` goes on. Then the ten good ones once more, undisturbed, in a new folder: all results
are compared with these, and two of these with `ddip-ray reconstruct` in one process. Wall time is compared
with the best packing of the times they took, and of their steps alone.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from abdomen import CT, binned
from cohort_command import COMMAND, call, scan_ct, status
from heading import heading
from numpy.typing import NDArray

from ddip_ray.io.stores.result import open_result

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cohort.md"
THICKNESS = (15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4)
CORRUPT, WITH_NAN = "v03", "v08"
BINNING, WORKERS, ENOUGH_DONE = 2, 2, 3
CHECKED = ("v10", "v11")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder) / "scans"
        make(scans)
        settings = Path(folder) / "run.yaml"
        settings.write_text(yaml.safe_dump({"method": "dds"}))
        run = ["cohort", "run", str(scans), "--config", str(settings), "--workers", str(WORKERS)]
        out = Path(folder) / "out"
        killed_after = kill_in_the_middle([*run, "-o", str(out)], out)
        resumed = call(["cohort", "resume", str(out)])
        found = status(out)
        for name in (CORRUPT, WITH_NAN):
            shutil.rmtree(scans / f"{name}.zarr")
        quiet = Path(folder) / "quiet"
        started = time.monotonic()
        call([*run, "-o", str(quiet)])
        wall = time.monotonic() - started
        undisturbed = status(quiet)
        same = sum(
            np.array_equal(read(e["output"]), read(found[n]["output"])) for n, e in undisturbed.items()
        )
        by_itself = sum(
            np.array_equal(read(undisturbed[n]["output"]), alone(scans, settings, n)) for n in CHECKED
        )
    whole = [entry["seconds"] for entry in undisturbed.values()]
    steps = [entry["step_seconds"] for entry in undisturbed.values()]
    lines = [
        *heading("A cohort of twelve volumes on two workers", "DDS, 4 to 15 slices of 64², 30 views."),
        f"The driver was killed with {killed_after} done; `cohort resume` then ended with {resumed}. "
        f"{same} of its ten results are those of an undisturbed cohort, to the bit, and {by_itself} of "
        f"{len(CHECKED)} of these are what `reconstruct` makes in one process.",
        "",
        "| volume | state | attempts | seconds | error |",
        "|---|---|---|---|---|",
        *(row(name, entry, folder) for name, entry in found.items()),
        "",
        "| the ten good ones, undisturbed | seconds | wall time over it |",
        "|---|---|---|",
        f"| wall time, with the start of the command and of Ray | {wall:.0f} | |",
        f"| best packing of their times, each with the start of its worker | {best(whole):.0f} | "
        f"{wall / best(whole):.2f} |",
        f"| best packing of their steps alone | {best(steps):.0f} | {wall / best(steps):.2f} |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    args.output.write_text(text)


def row(name: str, entry: dict[str, Any], folder: str) -> str:
    error = entry["error"].replace(f"{folder}/", "")
    return f"| {name} | {entry['state']} | {entry['attempts']} | {seconds(entry['seconds'])} | {error} |"


def make(scans: Path) -> None:
    scans.mkdir()
    small = binned(CT, BINNING)
    starts = itertools.accumulate(THICKNESS, initial=0)
    for number, (start, thickness) in enumerate(zip(starts, THICKNESS, strict=False)):
        scan_ct(small[start % 90 : start % 90 + thickness], scans / f"v{number:02}.zarr")
    (scans / f"{CORRUPT}.zarr" / "zarr.json").write_text('{"zarr_format": 3, ')
    import tensorstore

    kvstore = {"driver": "file", "path": str(scans / f"{WITH_NAN}.zarr" / "measurements")}
    array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
    array[0, 1, 2] = float("nan")


def kill_in_the_middle(words: list[str], out: Path) -> int:
    """SIGKILL for the driver when some are done; how many."""
    process = subprocess.Popen([*COMMAND, *words])
    while process.poll() is None:
        time.sleep(1)
        done = (
            sum(e["state"] == "done" for e in status(out).values()) if (out / "cohort.sqlite").exists() else 0
        )
        if done >= ENOUGH_DONE:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return done
    raise RuntimeError("the cohort ended before it could be disturbed")


def alone(scans: Path, settings: Path, name: str) -> NDArray[np.float32]:
    output = scans.parent / f"alone-{name}.zarr"
    words = ["reconstruct", str(scans / f"{name}.zarr"), "-o", str(output), "--config", str(settings)]
    call([*words, "--executor", "local"])
    return read(str(output))


def read(path: str) -> NDArray[np.float32]:
    result = open_result(path)
    return result.read(0, result.shape[0])


def best(times: list[float]) -> float:
    """The shortest time in which two workers can do all, found by trying every division."""
    total = sum(times)
    halves = (sum(chosen) for n in range(len(times) + 1) for chosen in itertools.combinations(times, n))
    return min(max(half, total - half) for half in halves)


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
