"""A process that does the work of a pipeline on this machine: Beam's worker, which says only what is worth reading.

    python -m paligax.data.ingest.worker LEVEL PID

It ends when process PID, whose pipeline it is, is there no more: what nobody waits for shall not fill the memory of a
build that was begun again.
"""

import logging
import os
import sys
import threading
import time

from paligax.data.ingest import notices

POLL = 2.0  # seconds


def main(words: list[str]) -> None:
    """Works until the pipeline is at its end; LEVEL is the least one of messages that reach standard error."""
    name, level, pid = words
    threading.Thread(target=_end_with, args=(int(pid), os.getppid()), daemon=True).start()
    notices.leave_out()
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)  # before Beam, which would add one for everything
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([name])


def _end_with(pid: int, parent: int) -> None:
    """Ends this process when ``pid``, or the shell between, is gone."""
    while _is_there(pid) and os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv)
