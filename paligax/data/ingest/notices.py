"""What Beam prints in every process: notices on what isn't there and isn't needed, and each error several times."""

import logging

# They log the traceback of an error that they raise again, and that ends the pipeline.
_TOLD_TWICE = ("apache_beam.runners.common", "apache_beam.runners.worker.sdk_worker")
_NOTICES = ("apitools not found", "No semi_persistent_directory found")


def leave_out() -> None:
    """Called before Beam is imported: these notices aren't logged, nor are errors twice; everything else is."""
    for name in ("", "__main__", "apache_beam.runners.worker.sdk_worker_main"):
        logger = logging.getLogger(name)
        if _is_wanted not in logger.filters:
            logger.addFilter(_is_wanted)
    for name in _TOLD_TWICE:
        logger = logging.getLogger(name)
        if _is_no_error not in logger.filters:
            logger.addFilter(_is_no_error)


def _is_wanted(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NOTICES)


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno != logging.ERROR
