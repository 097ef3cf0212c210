"""An S3 server on loopback, moto's, behind a proxy that fails as stores and networks do."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

SECRET = "a-secret-that-nobody-may-see"
_HOPS = {"connection", "transfer-encoding", "content-length", "date", "server"}
_BUSY = "<?xml version='1.0'?><Error><Code>{}</Code><Message>injected</Message></Error>"
_ERRORS = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
_SIGNED = {
    "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
}
_numbers = count()


@dataclass
class Fault:
    """What the next `times` requests of `method` (any by default) meet whose path and query hold `part`.

    `kind`: 500, 503 or 403; `drop` (the connection ends without an answer); `truncate` (half of the body, then the
    connection ends); `short` (half of the body, as if it were all); `late` (the store does it, the answer is lost);
    `lag` (a listing lacks the keys that hold `key`).
    """

    kind: str
    times: int = 1
    method: str = ""
    part: str = ""
    key: str = ""


@dataclass
class S3Server:
    """The server as a test sees it: `url` of an empty bucket, faults to come, requests that came as (method, path)."""

    port: int  # of the proxy
    moto: int  # the port behind it
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bucket: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What a client's environment needs."""
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }

    def fail(self, kind: str, times: int = 1, *, method: str = "", part: str = "", key: str = "") -> None:
        """Add a fault, see Fault."""
        with self.lock:
            self.faults.append(Fault(kind, times, method, part, key))

    def fault(self, method: str, path: str) -> Fault:
        """The fault that this request meets, which has happened once more; one of kind "" for none."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                listing = fault.kind != "lag" or "list-type" in path
                if fault.times and fault.method in ("", method) and fault.part in path and listing:
                    fault.times -= 1
                    return fault
        return Fault("")

    def asked(self, method: str, part: str = "") -> int:
        """How many requests of this method came whose path holds `part`."""
        return sum(m == method and part in path for m, path in self.requests)

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        """A request straight to the store, past the proxy: the status, the headers and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.moto)
        try:
            connection.request(method, path, body, headers or _SIGNED)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def put(self, key: str, data: bytes) -> None:
        """Put an object there, past the proxy."""
        status, _, body = self.ask("PUT", f"/{self.bucket}/{quote(key)}", data)
        assert status == 200, body

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Put all files of a folder there, past the proxy; the URL of the prefix."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"{self.url}/{prefix}"

    def stored(self) -> list[str]:
        """The keys of the bucket, in order, past the proxy."""
        body: bytes = self.ask("GET", f"/{self.bucket}?list-type=2")[2]
        return re.findall(r"<Key>(.*?)</Key>", body.decode())


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    server: S3Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _forward(self) -> None:
        assert isinstance(self.server, _Proxy)
        store = self.server.server
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = store.fault(self.command, self.path)
        if fault.kind in _ERRORS:
            body = b"" if self.command == "HEAD" else _BUSY.format(_ERRORS[fault.kind]).encode()
            return self._answer(int(fault.kind), [("Content-Type", "application/xml")], body, len(body))
        if fault.kind == "drop":
            self.close_connection = True
            return None
        status, headers, body = store.ask(self.command, self.path, sent, dict(self.headers))
        if fault.kind == "late":
            self.close_connection = True
            return None
        if fault.kind == "lag":
            entries = re.compile(
                rf"<Contents>(?:(?!</Contents>).)*?<Key>[^<]*{re.escape(fault.key)}.*?</Contents>", re.S
            )
            body = entries.sub("", body.decode()).encode()
        declared = dict(headers).get("Content-Length") if self.command == "HEAD" else len(body)
        if fault.kind in ("truncate", "short"):
            body = body[: len(body) // 2]
            declared = len(body) if fault.kind == "short" else declared
            self.close_connection = True
        return self._answer(status, headers, body, int(declared or 0))

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward


@contextmanager
def serving() -> Iterator[S3Server]:
    """Moto's server and the proxy, on ports of 127.0.0.1 that are free."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    proxy = _Proxy(("127.0.0.1", 0), _Handler)
    store = proxy.server = S3Server(proxy.server_address[1], moto.get_host_and_port()[1])
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with serving() as store:
        yield store


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server with a new, empty bucket and no faults; the environment names it. Mark the test with `s3`."""
    s3_server.bucket = f"bucket-{next(_numbers)}"
    s3_server.faults, s3_server.requests = [], []
    assert s3_server.ask("PUT", f"/{s3_server.bucket}")[0] == 200
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server
