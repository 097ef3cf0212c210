"""A headless Chromium for tests of pages, and what is measured of a page in it.

A test that takes the fixture `browser` is skipped where there is no Chromium or no playwright.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# elements that show text of their own, drawings aside
TEXTS = """[...document.body.querySelectorAll(":not(svg, svg *, script, style)")].filter((e) => e.checkVisibility()
  && [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()))"""
# of every such element [what it is, its text's pixel, the pixel behind it], transparent layers painted in turn
COLOURS = f"""() => {{
  const canvas = document.createElement("canvas"), brush = canvas.getContext("2d", {{willReadFrequently: true}});
  const paint = (colour) => {{ brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }};
  const pixel = () => [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
  return {TEXTS}.map((e) => {{
    const layers = [];
    for (let up = e; up; up = up.parentElement) layers.unshift(getComputedStyle(up).backgroundColor);
    ["white", ...layers].forEach(paint);
    const behind = pixel();
    paint(getComputedStyle(e).color);
    return [`${{e.tagName}}.${{e.className}} ${{e.textContent.trim().slice(0, 30)}}`, pixel(), behind];
  }});
}}"""


@dataclass
class Opened:
    """A loaded page, the addresses it asked for and what the browser complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; of the module, for playwright's event loop would be in other tests' way."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS, timeout=60_000)
        yield running
        running.close()


@contextmanager
def opened(
    browser: Browser,
    page_of: Path | str,
    *,
    width: int = 1280,
    height: int = 800,
    scheme: Scheme = "light",
    trust: bool = False,
) -> Iterator[Opened]:
    """A file, without network, or an address, in a fresh context; `trust` lifts the page's own policy, which would hide faults."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        offline=not isinstance(page_of, str),
        bypass_csp=trust,
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    seen = Opened(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("websocket", lambda socket: seen.requests.append(socket.url))
    page.on("console", lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    try:
        page.goto(page_of if isinstance(page_of, str) else page_of.as_uri(), wait_until="load")
        yield seen
    finally:
        context.close()


def contrast(one: list[int], other: list[int]) -> float:
    """WCAG's contrast ratio of two RGB colours."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[int]) -> float:
    """WCAG's relative luminance, 0 of black to 1 of white."""
    parts = [c / 255 for c in colour]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
