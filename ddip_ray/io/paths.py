"""Paths of stores as a person writes them, and reading and writing below them.

Accepted are local paths and ``file://``, ``s3://bucket/key``, ``gs://bucket/key``, and for reading
``http(s)://``. Object stores take endpoint and credentials from the usual variables (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; GOOGLE_APPLICATION_CREDENTIALS).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ddip_ray.errors import InputError, Unavailable

if TYPE_CHECKING:
    from zarr.abc.store import Store

StorePath = str | os.PathLike[str]

_REMOTE = ("s3", "gs", "http", "https")
_NO_SPACE = ("RESOURCE_EXHAUSTED", f"os_error_code='{errno.ENOSPC}'", "No space left on device")
_UNREACHABLE = ("UNAVAILABLE", "CURL error", "retry attempts failed")
# About 20 seconds in all: a throttled store is waited for, a wrong endpoint is not waited for long (the
# library's 32 attempts take many minutes).
RETRIES: dict[str, Any] = {"max_retries": 8, "initial_delay": "200ms", "max_delay": "5s"}
_FREE_SPACE = "Free some space or write elsewhere"
_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "HTTP response code: 403", "HTTP response code: 401")


def scheme(path: StorePath) -> str:
    """The path's scheme: ``file``, ``s3``, ``gs``, ``http`` or ``https``; InputError for any other."""
    text = os.fspath(path)
    head, separator, _ = text.partition("://")
    if not separator:
        return "file"
    if head.lower() not in ("file", *_REMOTE):
        raise InputError(
            f"{text}: cannot open {head}:// paths",
            "Use a local path, s3://, gs://, or http(s):// for reading",
        )
    return head.lower()


def is_remote(path: StorePath) -> bool:
    """Whether ``path`` lies in an object store or on a web server."""
    return scheme(path) in _REMOTE


def local_path(path: StorePath) -> Path:
    """The absolute local path; ValueError for a remote path."""
    if is_remote(path):
        raise ValueError(f"{path} is not local")
    text = os.fspath(path)
    if "://" in text:
        text = unquote(urlsplit(text).path)
    path = Path(text).expanduser().absolute()
    # tensorstore refuses ".."; what that means is up to symbolic links, so these are followed then.
    return path.resolve() if ".." in path.parts else path


def make_folder(path: StorePath) -> Path:
    """The local folder at ``path``, made if it is missing; InputError where no folder can be made."""
    folder = local_path(path)
    with storage_errors(path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
            raise InputError(f"{path}: no folder can be made there ({error.strerror})") from error
    return folder


def absolute(path: StorePath) -> str:
    """The path in a form that means the same in another process: absolute if local, no slash at the end."""
    text = os.fspath(path).rstrip("/") if is_remote(path) else str(local_path(path))
    if is_remote(path):
        _bucket_and_key(path)
    return text


def join(path: StorePath, *names: str) -> str:
    """The path of what ``names`` lead to below ``path``."""
    return "/".join([absolute(path), *names])


def name(path: StorePath) -> str:
    """The last part of a path."""
    return absolute(path).rsplit("/", 1)[-1]


def kvstore_spec(path: StorePath) -> dict[str, Any]:
    """The tensorstore key-value store at ``path``."""
    kind = scheme(path)
    if kind == "file":
        return {"driver": "file", "path": f"{local_path(path)}/"}
    if kind in ("http", "https"):
        return {"driver": "http", "base_url": absolute(path) + "/", "http_request_retries": RETRIES}
    bucket, key = _bucket_and_key(path)
    if kind == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": key + "/", "gcs_request_retries": RETRIES}
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": key + "/", "aws_region": _aws_region()}
    spec["s3_request_retries"] = RETRIES
    if endpoint := _aws_endpoint():
        spec["endpoint"] = endpoint
    if "AWS_ACCESS_KEY_ID" in os.environ:
        # Named outright: the default chain also asks the cloud's metadata address, seconds lost elsewhere.
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def open_kvstore(path: StorePath) -> Any:
    """An open tensorstore key-value store whose keys are relative to ``path``."""
    import tensorstore as ts

    return ts.KvStore.open(kvstore_spec(path)).result()


def zarr_store(path: StorePath) -> Store:
    """A read-only store for zarr-python; object stores and the web need the ``s3`` extra (obstore)."""
    import zarr.storage

    kind = scheme(path)
    if kind == "file":
        return zarr.storage.LocalStore(local_path(path), read_only=True)
    try:
        import obstore.store
    except ImportError as error:
        raise InputError(
            f"{path}: reading images from {kind}:// needs obstore", 'pip install "ddip-ray[s3]"'
        ) from error
    store: Any
    if kind in ("http", "https"):
        store = obstore.store.HTTPStore(absolute(path), client_options={"allow_http": True})
    else:
        bucket, key = _bucket_and_key(path)
        if kind == "gs":
            store = obstore.store.GCSStore(bucket, prefix=key)
        else:
            options: dict[str, Any] = {"region": _aws_region(), "client_options": {"allow_http": True}}
            if endpoint := _aws_endpoint():
                options["endpoint"] = endpoint
            store = obstore.store.S3Store(bucket, prefix=key, **options)
    return zarr.storage.ObjectStore(store, read_only=True)


def exists(path: StorePath) -> bool:
    """Whether there is anything at ``path``: a file, a folder, or an object whose key starts there."""
    if not is_remote(path):
        return local_path(path).exists()
    if scheme(path) in ("http", "https"):  # the web cannot list
        return any(read_bytes(path, key) is not None for key in ("zarr.json", ".zattrs", ".zgroup"))
    return bool(list_keys(path))


def list_keys(path: StorePath, prefix: str = "") -> list[str]:
    """All keys below ``path`` that start with ``prefix``, sorted; none on the web, which cannot list."""
    import tensorstore as ts

    if scheme(path) in ("http", "https"):
        return []
    key_range = ts.KvStore.KeyRange(prefix, prefix + "\x7f") if prefix else ts.KvStore.KeyRange()
    with storage_errors(path):
        return sorted(key.decode() for key in open_kvstore(path).list(key_range).result())


def read_bytes(path: StorePath, key: str) -> bytes | None:
    """The value of ``key`` below ``path``, or None when there is none."""
    with storage_errors(path):
        found = open_kvstore(path).read(key).result()
    return bytes(found.value) if found.state == "value" else None


def write_bytes(path: StorePath, key: str, data: bytes) -> None:
    """Write one key below ``path``, whole or not at all."""
    with storage_errors(path):
        open_kvstore(path).write(key, data).result()


def replace_file(path: Path, data: bytes) -> None:
    """Write a local file such that a reader sees the old content or the new one, and nothing between."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def delete_tree(path: StorePath) -> None:
    """Delete everything below ``path``, and the folder itself if local; it need not exist."""
    import tensorstore as ts

    if is_remote(path):
        with storage_errors(path):
            open_kvstore(path).delete_range(ts.KvStore.KeyRange()).result()
    else:
        shutil.rmtree(local_path(path), ignore_errors=True)


def size_bytes(path: StorePath) -> int | None:
    """The bytes stored below ``path``; None for remote stores, which would have to be asked key by key."""
    if is_remote(path):
        return None
    return sum(entry.stat().st_size for entry in local_path(path).rglob("*") if entry.is_file())


def require_free_space(path: StorePath, needed: int) -> None:
    """InputError when the local disk that will hold ``path`` has less than ``needed`` bytes free."""
    if is_remote(path):
        return
    parent = local_path(path).parent
    available = shutil.disk_usage(parent).free
    if needed > available:
        raise InputError(
            f"{path}: needs up to {needed:,} bytes, {parent} has {available:,} bytes free",
            _FREE_SPACE,
        )


@contextmanager
def storage_errors(path: StorePath) -> Iterator[None]:
    """Turn a full disk, a refused access or an unreachable store into InputError naming ``path``."""
    try:
        yield
    except (OSError, ValueError) as error:
        # tensorstore reports everything as ValueError, with the status code and errno in its text.
        text = str(error)
        if getattr(error, "errno", None) == errno.ENOSPC or any(mark in text for mark in _NO_SPACE):
            raise Unavailable(f"{path}: no space left on the disk", _FREE_SPACE) from error
        if isinstance(error, PermissionError) or any(mark in text for mark in _DENIED):
            raise InputError(f"{path}: access denied", "Check permissions and credentials") from error
        if "NoSuchBucket" in text:
            raise InputError(f"{path}: no such bucket", "Create it or correct the path") from error
        if is_remote(path) and any(mark in text for mark in _UNREACHABLE):
            hint = "Check AWS_ENDPOINT_URL and the network"
            raise Unavailable(f"{path}: the store cannot be reached ({text[:200]})", hint) from error
        raise


def _bucket_and_key(path: StorePath) -> tuple[str, str]:
    text = os.fspath(path)
    parts = urlsplit(text)
    key = parts.path.strip("/")
    # A store at the root of a bucket would make "replace this store" mean "empty this bucket".
    if not parts.netloc or not key:
        raise InputError(
            f"{text}: needs a bucket and a name in it", f"For example {parts.scheme}://bucket/vol.zarr"
        )
    return parts.netloc, key


def _aws_endpoint() -> str | None:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return endpoint.rstrip("/") if endpoint else None


def _aws_region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
