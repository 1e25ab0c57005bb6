"""Sites, the schema of RayJobs, and as much of a Kubernetes API server as kubectl asks of one."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

from ddip_ray.launch.kubernetes.site import KubernetesSite

Object = dict[str, Any]
SCHEMAS = Path(__file__).parent / "kuberay" / "kuberay-v1.7.0-crds.schema.json.gz"
CLAIM = {"claim": {"name": "data", "mount_path": "/data"}}
OBJECTS = {"object_store": {"secret": "keys", "endpoint_url": "http://objects:9000"}}
QUEUED = {"mode": "fixed", "queue": "gpus"}
ELASTIC = {"mode": "elastic", "min_nodes": 1, "max_nodes": 4}


def site(**values: Any) -> KubernetesSite:
    """One with a claim, unless ``values`` say something else."""
    return KubernetesSite.model_validate({"image": "example.org/ddip-ray:1", "storage": CLAIM} | values)


def site_file(folder: Path, **values: Any) -> Path:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"image": "example.org/ddip-ray:1", "storage": CLAIM} | values))
    return path


@cache
def rayjob_schema() -> jsonschema.Draft202012Validator:
    schema = json.loads(gzip.decompress(SCHEMAS.read_bytes()))["ray.io/v1/RayJob"]
    group = schema["properties"]["spec"]["properties"]["rayClusterSpec"]["properties"]["workerGroupSpecs"]
    required = group["items"]["required"]
    group["items"]["required"] = [name for name in required if name not in ("minReplicas", "maxReplicas")]
    return jsonschema.Draft202012Validator(schema)


def schema_errors(manifest: Object) -> list[str]:
    return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in rayjob_schema().iter_errors(manifest)]


@dataclass
class ApiServer:
    """``states``: what KubeRay says of the job, one each time it is asked, the last one for ever."""

    states: Sequence[Object]
    logs: Sequence[str] = ()  # of the submitter's pod, one each time
    refusal: str = ""  # of what is created
    created: list[Object] = field(default_factory=list)
    log_queries: list[dict[str, list[str]]] = field(default_factory=list)
    asked: int = 0

    def get(self, path: str, query: str) -> Object | str | None:
        """What a GET answers; None: not found."""
        if path in _DISCOVERY:
            return _DISCOVERY[path]
        *_, plural, name = path.split("/")
        if plural == "rayjobs":
            return self._rayjob(name)
        if plural == "jobs":
            spec = {"selector": {"matchLabels": {"job-name": name}}}
            return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        if name == "log":
            self.log_queries.append(parse_qs(query))
            return self.logs[min(len(self.log_queries), len(self.logs)) - 1]
        if name == "pods":
            return {"apiVersion": "v1", "kind": "PodList", "items": [_pod()]}
        return _pod() if plural == "pods" else None

    def _rayjob(self, name: str) -> Object | None:
        if not self.created or self.created[-1]["metadata"]["name"] != name:
            return None
        state = self.states[min(self.asked, len(self.states) - 1)]
        self.asked += 1
        return self.created[-1] | {"status": state}


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(version: str, kind: str, plural: str) -> Object:
    resource = {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind}
    resource["verbs"] = ["create", "get", "list"]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [resource]}


def _pod() -> Object:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    spec = {"containers": [{"name": "ray-job-submitter"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "submitter"},
        "spec": spec,
        "status": status,
    }


_DISCOVERY: dict[str, Object] = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("ray.io"), _group("batch")]},
    "/api/v1": _resources("v1", "Pod", "pods"),
    "/apis/ray.io/v1": _resources("ray.io/v1", "RayJob", "rayjobs"),
    "/apis/batch/v1": _resources("batch/v1", "Job", "jobs"),
}


@contextmanager
def serving(server: ApiServer, folder: Path) -> Iterator[Path]:
    """A kubeconfig of ``server`` in ``folder``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found = server.get(parts.path, parts.query)
            if found is None:
                self._answer(404, _status(404, "NotFound", f"{parts.path} not found"))
            else:
                self._answer(200, found)

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.refusal:
                self._answer(422, _status(422, "Invalid", server.refusal))
            else:
                server.created.append(sent)
                self._answer(201, sent)

        def _answer(self, code: int, content: Object | str) -> None:
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(code)
            kind = "text/plain" if isinstance(content, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        config = folder / "kubeconfig"
        config.write_text(yaml.safe_dump(_kubeconfig(http.server_address[1])))
        try:
            yield config
        finally:
            http.shutdown()
            thread.join()


def _status(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def _kubeconfig(port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
        "current-context": "here",
    }
