"""Files at a URL are fetched before they are asked for, many at a time: a network answers late, but many at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from ffdi.intake.decoding.image_source import ImageSource

Item = TypeVar("Item")
File = tuple[str, str]  # its path, and its image_id, "" where that is not known

READERS = 64  # files that are fetched at a time
MOST = 128  # files that are fetched, or are being fetched, and that nobody has asked for yet


class ReadAhead:
    """Reads files of `source` ahead of whoever asks for them; several threads may ask. A folder is read when asked for."""

    def __init__(self, source: ImageSource, readers: int = READERS, most: int = MOST) -> None:
        self.source, self._readers, self._most = source, readers, most
        self._changed = threading.Condition()
        self._queue: deque[File] = deque()
        self._found: dict[File, bytes | Exception | None] = {}  # None while it is being fetched
        self._ended = False

    def over(self, items: Iterable[Item], files: Callable[[Item], Iterable[File]]) -> Iterator[Item]:
        """Yield `items`, while the `files` that each of them will ask for are fetched, `most` files ahead."""
        if not self.source.is_remote:
            yield from items
            return
        self._ended = False
        threads = [threading.Thread(target=self._fetch, name="ffdi-fetch", daemon=True) for _ in range(self._readers)]
        waiting: deque[tuple[Item, int]] = deque()
        ahead = 0
        try:
            for thread in threads:
                thread.start()
            for item in items:
                wanted = list(files(item))
                self._ask(wanted)
                waiting.append((item, len(wanted)))
                ahead += len(wanted)
                while ahead > self._most:
                    item, count = waiting.popleft()
                    ahead -= count
                    yield item
            while waiting:
                yield waiting.popleft()[0]
        except BaseException:  # closed before its end, too
            with self._changed:
                self._queue.clear()
            raise
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def read(self, path: str, image_id: str = "") -> bytes:
        """As ImageSource.read; at once where the file has been fetched."""
        file = (path, image_id)
        with self._changed:
            while file in self._found and self._found[file] is None:
                self._changed.wait()
            found = self._found.pop(file, None)
            if found is None:
                with suppress(ValueError):  # whoever asks is faster
                    self._queue.remove(file)
            self._changed.notify_all()
        if isinstance(found, Exception):
            raise found
        return self.source.read(path, image_id) if found is None else found

    def _ask(self, files: Iterable[File]) -> None:
        with self._changed:
            self._queue.extend(files)
            self._changed.notify_all()

    def _next(self) -> File | None:
        """The next file to fetch, once there is room for it; None at the end."""
        with self._changed:
            while True:
                if self._queue and len(self._found) < self._most:
                    file = self._queue.popleft()
                    if file not in self._found:
                        self._found[file] = None
                        return file
                elif self._ended and not self._queue:
                    return None
                else:
                    self._changed.wait()

    def _fetch(self) -> None:
        while file := self._next():
            try:
                found: bytes | Exception = self.source.read(*file)
            except Exception as error:  # raised where the file is asked for
                found = error
            with self._changed:
                self._found[file] = found
                self._changed.notify_all()
