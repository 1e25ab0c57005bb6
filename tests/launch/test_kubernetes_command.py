"""`ddip-ray launch k8s`: site files and flags, good and bad; how large pods are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ddip_ray_cli.main import main
from kubernetes_cluster import ELASTIC, OBJECTS, QUEUED, Object, schema_errors, site_file

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.planning.memory import image_bytes, worker_bytes
from ddip_ray.io.stores.acquisition import open_acquisition

EXAMPLE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "site.example.yaml"
VOLUME = ["reconstruct", "vol.zarr"]
GPUS = ["--gpus-per-node", "2"]


def launch(site: Path, *words: str, command: list[str] = VOLUME) -> int:
    return main(["launch", "k8s", "--site", str(site), "--dry-run", *words, "--", *command])


def printed(capsys: pytest.CaptureFixture[str]) -> Object:
    manifest: Object = yaml.safe_load(capsys.readouterr().out)
    return manifest


def worker_memory(manifest: Object) -> str:
    group = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    memory: str = group["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"]
    return memory


def test_the_example_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(EXAMPLE, *GPUS, "--nodes", "3", "--name", "volume-7") == 0
    manifest = printed(capsys)
    assert schema_errors(manifest) == []
    assert manifest["metadata"]["name"] == "volume-7"
    assert manifest["spec"]["entrypoint"] == "ddip-ray reconstruct vol.zarr --elastic --gpus 6"


def test_every_setting_is_in_the_example() -> None:
    from ddip_ray.launch.kubernetes.site import KubernetesSite

    text = EXAMPLE.read_text()
    assert set(yaml.safe_load(text)) == set(KubernetesSite.model_fields)
    assert {"min_nodes", "max_nodes"} <= set(text.replace(":", " ").split())


def test_every_job_has_a_name_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = set()
    for _ in range(2):
        assert launch(site_file(tmp_path), *GPUS, command=["cohort", "run", "scans", "-o", "out"]) == 0
        names.add(printed(capsys)["metadata"]["name"])
    assert len(names) == 2
    assert all(name.startswith("cohort-run-") for name in names)


def test_memory_of_cpu_workers_is_what_a_plan_says(
    tmp_path: Path, small_scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_scan.parent)
    words = ["--nodes", "1", "--cpus-per-node", "2"]
    assert launch(site_file(tmp_path), *words, command=["reconstruct", "vol.zarr", "--method", "tv"]) == 0
    said = capsys.readouterr()
    acquisition = open_acquisition("vol.zarr")
    most = -(-acquisition.num_slices // 2)
    needed = worker_bytes(acquisition, RunConfig(method="tv"), most, "cpu")
    found = int(worker_memory(yaml.safe_load(said.out)).removesuffix("Mi")) * 2**20
    assert 0 <= found - (2 * needed + 3 * 2**30) < 2**20
    assert "2 workers of up to 6 slices" in said.err


def test_memory_of_gpu_workers_is_the_hosts(
    tmp_path: Path, small_scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_scan.parent)
    assert launch(site_file(tmp_path), "--gpus-per-node", "1", command=VOLUME) == 0
    said = capsys.readouterr()
    acquisition = open_acquisition("vol.zarr")
    slab = 2 * acquisition.num_slices * (image_bytes(acquisition) + acquisition.slice_bytes)
    found = int(worker_memory(yaml.safe_load(said.out)).removesuffix("Mi")) * 2**20
    assert 0 <= found - (4 + 3) * 2**30 - slab < 2**20
    assert "of its GPU" in said.err


def test_memory_is_the_sites_where_the_store_cannot_be_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = site_file(tmp_path, workers={"memory_per_gpu": "10Gi"})
    assert launch(where, *GPUS, command=["reconstruct", "/data/there.zarr"]) == 0
    said = capsys.readouterr()
    assert worker_memory(yaml.safe_load(said.out)) == f"{(2 * 10 + 3) * 1024}Mi"
    assert said.err.count("\n") == 1
    assert "memory is the site's default: " in said.err


def test_more_workers_than_shards_are_refused_here(
    tmp_path: Path, small_scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_scan.parent)
    assert launch(site_file(tmp_path), "--nodes", "50", "--gpus-per-node", "4") == 2
    assert "200 workers for 12 slices" in capsys.readouterr().err


def test_one_cpu_worker_stays_off_the_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(site_file(tmp_path), "--cpus-per-node", "1") == 0
    assert printed(capsys)["spec"]["entrypoint"].endswith("--workers 1 --executor ray")


def test_an_elastic_site_says_how_many_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = site_file(tmp_path, scheduling=ELASTIC)
    assert launch(where, *GPUS) == 0
    assert printed(capsys)["spec"]["entrypoint"].endswith("--gpus 8")
    assert launch(where, *GPUS, "--nodes", "5") == 2
    assert "--nodes 5, the site allows 1 to 4" in capsys.readouterr().err


BAD_SITES: list[tuple[dict[str, Any], str]] = [
    ({"image": "ddip-ray"}, "image: "),
    ({"image": None}, "image: "),
    ({"namespace": "Ddip_Ray"}, "namespace: "),
    ({"storage": {}}, "storage: Value error, expected claim, object_store or both"),
    ({"storage": {"claim": {"name": "a", "mount_path": "data"}}}, "storage.claim.mount_path: "),
    ({"storage": {"claim": {"name": "a", "mount_path": "/"}}}, "storage.claim.mount_path: "),
    ({"storage": {"object_store": {"endpoint_url": "http://a"}}}, "storage.object_store.secret: "),
    ({"storage": {"object_store": {"secret": "a", "endpoint_url": "a:9"}}}, "object_store.endpoint_url: "),
    ({"scheduling": {"mode": "sometimes"}}, "scheduling: "),
    ({"scheduling": ELASTIC | {"queue": "gpus"}}, "scheduling.elastic.queue: "),
    ({"scheduling": QUEUED | {"max_nodes": 3}}, "scheduling.fixed.max_nodes: "),
    ({"scheduling": ELASTIC | {"min_nodes": 9}}, "scheduling.elastic: Value error, min_nodes 9"),
    ({"scheduling": ELASTIC | {"min_nodes": 0}}, "scheduling.elastic.min_nodes: "),
    ({"workers": {"memory_per_gpu": "24G"}}, "workers.memory_per_gpu: "),
    ({"user_id": 0}, "user_id: "),
    ({"retries": 0}, "retries: "),
    ({"tolerations": [{"effect": "Never"}]}, "tolerations.0.effect: "),
    ({"gpus": 3}, "gpus: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("values", "field"), BAD_SITES, ids=[field for _, field in BAD_SITES])
def test_bad_site_files(
    values: dict[str, Any], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(site_file(tmp_path, **values), *GPUS) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: site file ")
    assert f"\n  - {field}" in said.err or f".{field}" in said.err
    assert said.err.count("\n  - ") == 1


BAD_WORDS: list[tuple[list[str], list[str], str]] = [
    ([], VOLUME, "neither --gpus-per-node nor --cpus-per-node"),
    ([*GPUS, "--cpus-per-node", "2"], VOLUME, "give one or the other"),
    ([*GPUS, "--name", "Volume 7"], VOLUME, "expected lower-case letters"),
    (GPUS, [], "no command to launch"),
    (GPUS, ["simulate", "a"], "'simulate' cannot be launched"),
    (GPUS, [*VOLUME, "--gpus", "3"], "the job decides where its command runs"),
    (GPUS, [*VOLUME, "--methd", "tv"], "No such option"),
    (GPUS, [*VOLUME, "--method", "magic"], "Invalid value for '--method'"),
    (GPUS, ["reconstruct"], "Missing argument 'STORE'"),
    (GPUS, ["reconstruct", "/home/me/vol.zarr"], "/home/me/vol.zarr: pods do not see this path"),
    (GPUS, [*VOLUME, "-o", "/data/../tmp/out.zarr"], "pods do not see this path"),
    (GPUS, [*VOLUME, "--config=~/run.yaml"], "~/run.yaml: pods do not see this path"),
    (GPUS, ["reconstruct", "s3://bucket/vol.zarr"], "the site has no storage.object_store"),
    (GPUS, ["reconstruct", "gs://bucket/vol.zarr"], "no credentials for gs://"),
    (["--cpus-per-node", "1"], ["cohort", "run", "a", "-o", "b"], "needs no cluster"),
    (["--nodse", "2", *GPUS], VOLUME, "'--nodse' cannot be launched"),
]


@pytest.mark.parametrize(("flags", "command", "reason"), BAD_WORDS, ids=[reason for *_, reason in BAD_WORDS])
def test_bad_words(
    flags: list[str], command: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(site_file(tmp_path), *flags, command=command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert reason in said.err


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (VOLUME, "vol.zarr: a path on a claim, and the site has no storage.claim"),
        (["reconstruct", "s3://b/vol.zarr", "-o", "out.zarr"], "out.zarr: a path on a claim"),
        (["cohort", "run", "s3://b/scans", "-o", "out"], "cohort run keeps a ledger in a folder"),
    ],
)
def test_an_object_store_alone(
    command: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(site_file(tmp_path, storage=OBJECTS), *GPUS, command=command) == 2
    assert reason in capsys.readouterr().err


def test_no_site_is_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "k8s", *GPUS, "--", *VOLUME]) == 2
    assert "error: no --site" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, ddip_ray_cli.main as m\n"
        "assert m.main(['launch', 'k8s', '--help']) == 0\n"
        "print([n for n in ('torch', 'ray', 'numpy', 'yaml') if n in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[-1] == "[]"
