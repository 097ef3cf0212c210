"""The server of the app: what it accepts, how it refuses, and that nothing of an upload stays."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from served_app import asked, raw, served

pytest.importorskip("starlette", reason="the extra app is not installed")

from ffdi.deploy.app.server import HEADERS, is_loopback, listen
from ffdi.deploy.app.worker import Answer
from ffdi.errors import FfdiError


def judged(data: bytes) -> Answer:
    if data == b"broken":
        raise RuntimeError("inside /home/somebody")
    return Answer(200, json.dumps({"length": len(data)}).encode())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(judged, megabytes=2, upload_seconds=0.5) as found:
        yield found


def test_a_file_is_answered(port: int) -> None:
    response, told = asked(port, b"12345")
    assert (response.status, told) == (200, {"length": 5})


@pytest.mark.parametrize("path", ["/", "/app.css", "/app.js"])
def test_the_page_is_whole_and_asks_no_other_host(port: int, path: str) -> None:
    response, text = asked(port, path=path)
    assert response.status == 200
    assert isinstance(text, str)
    assert "//" not in text.replace("\n//", ""), "an address of another host"
    assert path != "/" or ("m&lt;i&gt;del" in text and "at most 2 MB" in text)


@pytest.mark.parametrize(
    ("path", "data", "headers", "status"),
    [
        ("/", None, {}, 200),
        ("/judge", b"x", {}, 200),
        ("/judge", b"", {}, 422),
        ("/judge", b"broken", {}, 500),
        ("/judge", None, {}, 405),
        ("/nothing", None, {}, 404),
        ("/%2e%2e/%2e%2e/etc/passwd", None, {}, 404),
        ("/judge", b"x", {"content_type": "text/plain"}, 415),
        ("/judge", b"x", {"content_type": "multipart/form-data; boundary=x"}, 415),
        ("/judge", b"x", {"origin": "http://evil.example"}, 403),
        ("/judge", b"x", {"origin": "null"}, 403),
        ("/judge", b"x", {"origin": "http://["}, 403),
        ("/judge", b"x", {"sec_fetch_site": "cross-site"}, 403),
        ("/judge", b"x", {"host": "evil.example"}, 421),
        ("/", None, {"host": "127.0.0.1.evil.example"}, 421),
        ("/", None, {"host": "["}, 421),
        ("/", None, {"host": "localhost:1"}, 200),
        ("/", None, {"host": "[::1]:8000"}, 200),
        ("/judge", b"x", {"host": "known.example", "origin": "https://known.example"}, 200),
        ("/judge", bytes(2_000_001), {}, 413),
    ],
)
def test_every_answer_is_guarded(
    port: int, path: str, data: bytes | None, headers: dict[str, str], status: int
) -> None:
    response, told = asked(port, data, path, **headers)
    assert response.status == status
    assert {key: response.headers[key] for key in HEADERS} == HEADERS
    assert response.headers["server"] is None
    if status != 200:
        assert isinstance(told, dict)
        assert told["error"].strip()
    assert not [word for word in ("Traceback", "home", str(Path(__file__).parents[2]), sys.prefix) if word in str(told)]


def test_a_body_longer_than_it_says_is_refused(port: int) -> None:
    head = (
        "POST /judge HTTP/1.1\nhost: localhost\ncontent-type: application/octet-stream\ntransfer-encoding: chunked\n\n"
    )
    assert " 413 " in raw(port, f"{head}200000\n{'x' * 0x200000}\n0\n\n")


def test_an_upload_that_dawdles_is_given_up(port: int) -> None:
    head = "POST /judge HTTP/1.1\nhost: localhost\ncontent-type: application/octet-stream\ncontent-length: 9\n\nab"
    began = time.monotonic()
    assert " 408 " in raw(port, head)
    assert 0.4 < time.monotonic() - began < 9


def test_uploads_wait_for_their_turn_and_one_too_many_is_told_so() -> None:
    gate = threading.Event()

    def gated(data: bytes) -> Answer:
        assert gate.wait(30)
        return judged(data)

    with served(gated, places=4) as port, ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(asked, port, b"x") for _ in range(10)]
        first = [future.result() for future in islice(as_completed(waiting, timeout=30), 6)]
        gate.set()
        assert [response.status for response, _ in first] == [503] * 6
        assert {response.headers["retry-after"] for response, _ in first} == {"5"}
        assert "try again" in str(first[0][1])
        assert sorted(future.result()[0].status for future in waiting) == [200] * 4 + [503] * 6


def test_one_picture_is_judged_at_a_time() -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def watched(data: bytes) -> Answer:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1
        return Answer(200, b"{}")

    with served(watched) as port, ThreadPoolExecutor(10) as pool:
        assert [response.status for response, _ in pool.map(lambda _: asked(port, b"x"), range(10))] == [200] * 10
    assert most == 1


WRITTEN: list[str] | None = None


def note_writing(event: str, arguments: Any) -> None:
    if WRITTEN is not None and (event.startswith("tempfile") or (event == "open" and "r" not in str(arguments[1]))):
        WRITTEN.append(f"{event} {arguments}")


def test_no_file_is_written(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload of 1.9 MB: a form of more than 1 MB would go to a temporary file."""
    global WRITTEN
    sys.addaudithook(note_writing)
    try:
        WRITTEN = []
        with tempfile.TemporaryFile():
            assert WRITTEN, "the hook sees nothing"
        WRITTEN.clear()
        assert asked(port, bytes(1_900_000))[0].status == 200
        assert not WRITTEN
    finally:
        WRITTEN = None


def test_addresses(port: int) -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "example.org")))
    with listen("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number), timeout=5):
            pass  # nobody answers yet, but nobody is sent away
        with pytest.raises(FfdiError, match=f"port {number} .*try --port {number + 1}"):
            listen("127.0.0.1", number)
