"""What an admin sets up once: rendered by kubectl, every object valid, its names those of the example."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_cluster import Object

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
EXAMPLE = yaml.safe_load((FOLDER / "site.example.yaml").read_text())
KUBECTL = shutil.which("kubectl")
KUBERNETES = "1.32"
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl on this machine to render with")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """The objects of each overlay; with the example's keys, as there are no real ones here."""
    copy = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(FOLDER, copy)
    keys = copy / "components" / "object-store"
    shutil.copy(keys / "s3.example.env", keys / "s3.env")
    found = {}
    for overlay in ("base", "overlays/laboratory", "overlays/cloud"):
        command = ["kubectl", "kustomize", str(copy / overlay)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stderr == ""  # where it says what is deprecated
        found[overlay] = list(yaml.safe_load_all(done.stdout))
    return found


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def test_every_object_is_valid(rendered: dict[str, list[Object]]) -> None:
    for objects in rendered.values():
        for found in objects:
            if found["kind"] != "LocalQueue":  # Kueue's, not Kubernetes'
                kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_the_validator_is_strict(rendered: dict[str, list[Object]]) -> None:
    broken: Any = dict(of_kind(rendered["overlays/cloud"], "ResourceQuota")["gpus"])
    broken["spec"] = {"hrad": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_names_are_those_of_the_example(rendered: dict[str, list[Object]]) -> None:
    laboratory, cloud = rendered["overlays/laboratory"], rendered["overlays/cloud"]
    assert EXAMPLE["namespace"] in of_kind(laboratory, "Namespace")
    assert EXAMPLE["service_account"] in of_kind(laboratory, "ServiceAccount")
    assert EXAMPLE["storage"]["claim"]["name"] in of_kind(laboratory, "PersistentVolumeClaim")
    secret = of_kind(cloud, "Secret")[EXAMPLE["storage"]["object_store"]["secret"]]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(secret["data"])
    queue = of_kind(cloud, "LocalQueue")[EXAMPLE["scheduling"]["queue"]]
    assert set(queue["spec"]) == {"clusterQueue"}
    assert f"requests.{EXAMPLE['gpu_resource']}" in of_kind(cloud, "ResourceQuota")["gpus"]["spec"]["hard"]


def test_everything_lies_in_the_namespace(rendered: dict[str, list[Object]]) -> None:
    for objects in rendered.values():
        for found in objects:
            if found["kind"] != "Namespace":
                assert found["metadata"]["namespace"] == "ddip-ray"


def test_the_namespace_is_restricted_and_closed(rendered: dict[str, list[Object]]) -> None:
    base = rendered["base"]
    labels = of_kind(base, "Namespace")["ddip-ray"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert of_kind(base, "NetworkPolicy")["deny-ingress"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    assert of_kind(base, "ServiceAccount")["ddip-ray"]["automountServiceAccountToken"] is False


def test_the_readme_names_every_part() -> None:
    readme = (FOLDER / "README.md").read_text()
    for part in (FOLDER / "components").iterdir():
        assert f"`components/{part.name}`" in readme
    for overlay in (FOLDER / "overlays").iterdir():
        assert f"overlays/{overlay.name}`" in readme
