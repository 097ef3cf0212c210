"""An app that listens on loopback in a thread of the test, and light stand-ins for its model, which load no torch."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from ffdi.deploy.app.limits import UploadLimits
from ffdi.deploy.app.worker import Answer
from ffdi.errors import FfdiError

FACTS = {"name": "m<i>del", "description": "a network cut at layer4", "warning": ""}
TYPE = {"content-type": "application/octet-stream"}


class LightJudge:
    """Does what the file says: `sleep 9`, `exit`, `raise`; any other file gets its length back."""

    facts: Mapping[str, Any] = FACTS

    def __call__(self, data: bytes) -> tuple[int, Mapping[str, Any]]:
        word, *rest = data.decode("latin-1").split(" ", 1)
        if word == "sleep":
            time.sleep(float(rest[0]))
        if word == "exit":
            os._exit(1)
        if word == "raise":
            raise RuntimeError("inside /home/somebody")
        return 200, {"length": len(data), "process": os.getpid()}


def read_light_judge() -> LightJudge:
    return LightJudge()


def read_nothing() -> LightJudge:
    raise FfdiError("bundle.json: missing")


@contextmanager
def served(judged: Callable[[bytes], Answer], facts: Mapping[str, Any] = FACTS, **limits: Any) -> Iterator[int]:
    """The port of an app, which ends with the block."""
    import uvicorn

    from ffdi.deploy.app.server import application, listen

    app = application(judged, facts, UploadLimits(**limits), names=["Known.example"])
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, server_header=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def asked(
    port: int, data: bytes | None = None, path: str = "/judge", **headers: str
) -> tuple[HTTPResponse, dict[str, Any] | str]:
    """The response and its JSON or text: of a POST of `data`, or of a GET."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request("GET" if data is None else "POST", path, data, (TYPE if data is not None else {}) | named)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, json.loads(body) if response.headers["content-type"] == "application/json" else body


def raw(port: int, text: str, then: float = 0) -> str:
    """What comes back for the bytes of a request as they are; the connection is left open for `then` seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode())
        time.sleep(then)
        return connection.recv(1 << 16).decode()
