"""Keep tracebacks of user errors out of the log of a run; those of programming errors stay."""

import logging

from segcore.errors import UserError

from .collective import lost_process_error


def is_no_user_error(record: logging.LogRecord) -> bool:
    """Return False for log records of a :class:`UserError`; a logging filter.

    Detectron2's trainer logs every error that ends the training with its traceback. The entry point
    prints the message of a user error.
    """
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, UserError) and lost_process_error(error) is None


def hide_user_errors() -> None:
    """Keep the tracebacks of user errors out of the log of Detectron2's trainer."""
    logging.getLogger("detectron2.engine.train_loop").addFilter(is_no_user_error)
