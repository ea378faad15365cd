"""Batches made ready in the background while the device steps (and, at first, while the step compiles)."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

_DONE = object()


class Prefetch:
    """Runs an iterator in its own thread, a few items ahead.

    Args:
      items: called in the thread; its iterator's errors are raised by ``next``.
      place: applied to every item in the thread, e.g. the transfer to the devices.
      ahead: how many items are kept ready.
    """

    def __init__(self, items: Callable[[], Iterator[Any]], place: Callable[[Any], Any], ahead: int = 2):
        self._items = items
        self._place = place
        self._queue: queue.Queue = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items():
                if not self._put((self._place(item), None)):
                    return
            self._put((_DONE, None))
        except BaseException as error:  # raised where the batch is asked for
            self._put((_DONE, error))

    def _put(self, entry: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def __next__(self) -> Any:
        """The next item. Raises the iterator's error, StopIteration at its end."""
        item, error = self._queue.get()
        if error is not None:
            raise error
        if item is _DONE:
            raise StopIteration
        return item

    def close(self) -> None:
        """Stops the thread after the item it is working on."""
        self._stop.set()
        self._thread.join(timeout=5.0)
