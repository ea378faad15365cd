import logging

from paligax.data.ingest import notices


def test_notices_and_errors_told_twice_are_left_out(caplog):
    notices.leave_out()
    notices.leave_out()
    logging.warning("apitools not found, and so on")
    logging.getLogger("apache_beam.runners.common").error("Traceback of what is raised anyway")
    logging.getLogger("apache_beam.runners.common").warning("something else")
    logging.getLogger("apache_beam.io").error("an error that nobody else tells")
    logging.warning("tools not found")
    assert caplog.messages == ["something else", "an error that nobody else tells", "tools not found"]
    assert len(logging.getLogger("apache_beam.runners.common").filters) == 1
