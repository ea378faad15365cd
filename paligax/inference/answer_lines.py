"""The lines of a long job on disk: each process appends to a part of its own, and the parts are joined at the end.

    OUT.jsonl.unfinished/job.json            what is computed; another job doesn't go on with it
    OUT.jsonl.unfinished/done                joined when the job last began: positions 0 … n − 1
    OUT.jsonl.unfinished/part-00000          since then, a file a process
    OUT.jsonl                                all lines in order, when the last is there

A line on disk is its position, a tab, and JSON. A job that was killed leaves whole lines and perhaps the beginning of
one, which is cut off. So what is there is true at any moment, and joining twice changes nothing.
"""

import contextlib
import heapq
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

_SYNC_SECONDS = 10.0


class Lines:
    """The lines of one job.

    Args:
      path: of the finished file.
      job: what decides the lines, plain values: a job that goes on must have the same.
      total: number of lines.
    """

    def __init__(self, path: str | os.PathLike, job: Mapping[str, Any], total: int):
        self.path = pathlib.Path(path).expanduser()
        self._job, self._total = {**job, "questions": total}, total
        self._folder = self.path.with_name(self.path.name + ".unfinished")
        self._summary = self.path.with_name(self.path.name + ".summary.json")
        self._file: Any = None
        self._synced = 0.0

    def begin(self, multiple: int) -> int:
        """Goes on where the job was, or begins it; by one process, before any other calls ``open``.

        Args:
          multiple: lines are kept in groups of so many, so that those to come are computed as they would have been.

        Returns:
          how many lines are there; all of them: nothing is left to do but ``finish``.

        Raises:
          FileExistsError: where the finished file is there, and not of this job.
          ValueError: where another job was begun here.
          OSError: where nothing can be written.
        """
        if self.path.exists():
            if self._finished_here():
                shutil.rmtree(self._folder, ignore_errors=True)
                return self._total
            raise FileExistsError(
                f"{str(self.path)!r} exists, and is not of this very job: choose another path, or remove it."
            )
        with self._explained():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_job()
            count = self._join(self._folder / "done", multiple)
            for part in self._folder.glob("part-*"):
                part.unlink()
        return count

    def open(self, process: int) -> None:
        """Begins the part of one process."""
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"No directory {str(self._folder)!r} on this host: --to must lie where all processes see it."
            )
        with self._explained():
            self._file = (self._folder / f"part-{process:05d}").open("wb")

    def write(self, lines: Mapping[int, Mapping[str, Any]]) -> None:
        """Appends lines, position → what it says, in rising order; they outlive the process from then on."""
        text = "".join(f"{at}\t{json.dumps(line, ensure_ascii=False)}\n" for at, line in sorted(lines.items()))
        with self._explained():
            self._file.write(text.encode())
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_SECONDS:  # against a machine that stops
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        if self._file is not None:
            with self._explained():
                os.fsync(self._file.fileno())
                self._file.close()
            self._file = None

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Joins all parts to the finished file; by one process, after all have closed theirs.

        Args:
          summary: written beside it as JSON, with the job.

        Raises:
          OSError: where lines are missing.
        """
        with self._explained():
            if not self.path.exists():
                joined = self._folder / "joined"
                count = self._join(joined, 1, bare=True)
                if count != self._total:
                    raise OSError(
                        f"of {self._total} lines {count} are there: every process must write to the same directory"
                    )
                text = json.dumps({"job": self._job, **summary}, indent=1, ensure_ascii=False) + "\n"
                (self._folder / "summary").write_text(text, encoding="utf-8")
                os.replace(self._folder / "summary", self._summary)
                os.replace(joined, self.path)
        shutil.rmtree(self._folder, ignore_errors=True)

    def unjoined(self) -> Iterator[dict[str, Any]]:
        """What all lines say, before ``finish``."""
        for _, line in self._merged():
            yield json.loads(line)

    def joined(self) -> Iterator[dict[str, Any]]:
        """What all lines say, of the finished file."""
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def _merged(self) -> Iterator[tuple[int, bytes]]:
        """(position, JSON) of all parts, each position once, in order."""
        with contextlib.ExitStack() as stack:
            paths = [path for path in [self._folder / "done", *sorted(self._folder.glob("part-*"))] if path.is_file()]
            files = [stack.enter_context(path.open("rb")) for path in paths]
            last = -1
            for at, line in heapq.merge(*map(_whole_lines, files), key=lambda row: row[0]):
                if at != last:
                    yield at, line
                last = at

    def _join(self, to: pathlib.Path, multiple: int, bare: bool = False) -> int:
        """Writes the lines from 0 on up to the first that is missing; returns their number."""
        partial, count, kept = to.with_name(to.name + ".partial"), 0, 0
        with partial.open("wb") as file:
            for at, line in self._merged():
                if at != count or at >= self._total:
                    break
                file.write(line + b"\n" if bare else b"%d\t%b\n" % (at, line))
                count += 1
                if count % multiple == 0 or count == self._total:
                    kept, end = count, file.tell()
            if kept:
                file.truncate(end)
            else:
                file.truncate(0)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, to)
        return kept

    def _check_job(self) -> None:
        path = self._folder / "job.json"
        text = json.dumps(self._job, indent=1, ensure_ascii=False)
        if not path.is_file():
            partial = path.with_name("job.json.partial")
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, path)
            return
        begun, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        if changes := [
            f"{name} was {begun.get(name)!r}, is {now.get(name)!r}"
            for name in dict.fromkeys([*begun, *now])
            if begun.get(name) != now.get(name)
        ]:
            raise ValueError(
                f"{str(self._folder)!r} was begun otherwise:\n  "
                + "\n  ".join(changes)
                + f"\nGive the same words to go on, choose another --to, or remove {str(self._folder)!r} to begin anew."
            )

    def _finished_here(self) -> bool:
        try:
            job = json.loads(self._summary.read_text(encoding="utf-8")).get("job")
        except (OSError, ValueError, AttributeError):
            return False
        return job == json.loads(json.dumps(self._job))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{str(self.path)!r} could not be written: {error}. Give the same command again when there is room: it "
                f"goes on with what is in {str(self._folder)!r}."
            ) from error


def _whole_lines(file: Any) -> Iterator[tuple[int, bytes]]:
    """(position, JSON) up to the first line that is not whole or not in order."""
    last = -1
    for line in file:
        at, tab, text = line.partition(b"\t")
        if not line.endswith(b"\n") or not tab or not at.isdigit() or int(at) <= last or not text.startswith(b"{"):
            return
        last = int(at)
        yield last, text[:-1]
