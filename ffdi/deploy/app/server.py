"""The server of the app: a page, its style and script from memory, and one address that takes a file.

Nothing is written to disk: a file is the body of its request and stays in memory, where a form would be spooled to a
temporary file. Other sites cannot use the app through a browser: the request must name this machine, come from the
app's own page and have a type that a form cannot send (which a browser asks about first).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ffdi.deploy.app.limits import UploadLimits
from ffdi.deploy.app.worker import Answer, JudgingProcess, judge_of, refusal, tell_operator
from ffdi.errors import FfdiError
from ffdi.evaluation.templates import page_template
from ffdi.tails.record import read_record

FILE_TYPE = "application/octet-stream"
CONNECTIONS = 64
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
Judged = Callable[[bytes], Answer]


def serve(
    model: Path, listener: socket.socket, limits: UploadLimits, names: Collection[str], ready: Callable[[], None]
) -> None:
    """Judge uploads until Ctrl-C. `names` are host names under which the app is reached, beside localhost and numbers.

    `ready` is called once the model is read. FfdiError when it cannot be.
    """
    read_record(model)  # a wrong folder is said at once
    process = JudgingProcess(judge_of(model, limits.pixels), limits.seconds)
    try:
        app = application(process.ask, process.facts, limits, names, closing=process.close)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        ready()
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        process.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. FfdiError when the port is taken or the address is not here."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(CONNECTIONS)  # at once: whoever comes while the model is read waits
    except OSError as error:
        raise FfdiError(f"cannot listen on {host} port {port} ({error.strerror}): try --port {port + 1}") from None
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def application(
    judged: Judged,
    facts: Mapping[str, Any],
    limits: UploadLimits,
    names: Collection[str] = (),
    closing: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """The app. `judged` answers for a file, in a thread, one at a time; `facts` are those of the page; `closing` is called at the end."""
    here = Path(__file__).parent
    files = {
        "/": ("text/html", _page(here / "page.html", facts, limits)),
        "/app.css": ("text/css", (here / "app.css").read_bytes()),
        "/app.js": ("text/javascript", (here / "app.js").read_bytes()),
    }

    async def file(request: Request) -> Response:
        kind, content = files[request.url.path]
        return Response(content, media_type=kind)

    async def upload(request: Request) -> Response:
        status, body = await queue.answer(request)
        return Response(
            body, status, media_type="application/json", headers={"retry-after": "5"} if status == 503 else None
        )

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return _json(error.status_code, f"{error.detail}.")
        tell_operator(error)
        return _json(500, "The app failed on this request.")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        closing()

    queue = _Queue(judged, limits)
    routes = [*(Route(path, file) for path in files), Route("/judge", upload, methods=["POST"])]
    app = Starlette(routes=routes, exception_handlers={HTTPException: failed, Exception: failed}, lifespan=lifespan)
    return _guarded(app, frozenset(name.lower() for name in names))


class _Queue:
    """Uploads that are received, wait and are judged: a bounded number."""

    def __init__(self, judged: Judged, limits: UploadLimits) -> None:
        self._judged, self._limits = judged, limits
        self._places, self._turn = asyncio.Semaphore(limits.places), asyncio.Lock()

    async def answer(self, request: Request) -> Answer:
        if reason := _refused(request.headers):
            return reason
        if int(request.headers.get("content-length") or 0) > self._limits.most_bytes:
            return self._too_long()
        if self._places.locked():
            return refusal(503, "Too many pictures are being judged right now: try again in a few seconds.")
        async with self._places:
            try:
                data = await asyncio.wait_for(self._body(request), self._limits.upload_seconds)
            except asyncio.TimeoutError:
                return refusal(408, f"The upload took more than {self._limits.upload_seconds:g} seconds.")
            except ClientDisconnect:
                return refusal(400, "The upload was broken off.")
            if data is None:
                return self._too_long()
            if not data:
                return refusal(422, "This file is empty.")
            async with self._turn:
                if await request.is_disconnected():
                    return refusal(400, "Nobody waits for the answer any more.")
                return await asyncio.to_thread(self._judged, data)

    async def _body(self, request: Request) -> bytes | None:
        """The file, or None when it is too long, whatever its header says."""
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > self._limits.most_bytes:
                return None
        return b"".join(parts)

    def _too_long(self) -> Answer:
        return refusal(413, f"This file is larger than {self._limits.megabytes} MB, the most that is judged here.")


def _refused(headers: Headers) -> Answer | None:
    """Why a request is not one of the app's own page, or of a program on purpose."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin and origin.partition("://")[2] != headers.get("host")):
        return refusal(403, "This request comes from another page.")
    if headers.get("content-type") != FILE_TYPE:
        return refusal(415, f"Send the file as the body of the request, with the type {FILE_TYPE}.")
    if not headers.get("content-length", "0").isdecimal():
        return refusal(400, "The length of the request is no number.")
    return None


def _guarded(app: ASGIApp, names: frozenset[str]) -> ASGIApp:
    """The app with HEADERS on every answer, for requests that name this machine alone.

    A foreign site whose name is made to point here (DNS rebinding) still sends its own name, so names are refused that
    are not known; numbers cannot be bound to another machine.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        inner = app if _is_here(Headers(scope=scope).get("host", ""), names) else _misdirected
        with suppress(Exception):  # `failed` has answered, and the rest would be a traceback in the log
            await inner(scope, receive, send_with_headers)

    return guarded


def _is_here(host: str, names: frozenset[str]) -> bool:
    name = ""
    with suppress(ValueError):  # also of urlsplit, for a broken address
        name = urlsplit(f"//{host}").hostname or ""
        return bool(ipaddress.ip_address(name))
    return name == "localhost" or name in names


def _json(status: int, sentence: str) -> Response:
    return Response(refusal(status, sentence).body, status, media_type="application/json")


_misdirected: ASGIApp = _json(421, "The app is not known under this name: ffdi app --name NAME adds one.")


def _page(template: Path, facts: Mapping[str, Any], limits: UploadLimits) -> bytes:
    return page_template(template).render(model=facts, limits=limits).encode()
