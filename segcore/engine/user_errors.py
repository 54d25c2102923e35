"""The log of a run shows the tracebacks of programming errors, not of a user's errors."""

import logging

from segcore.errors import UserError

from .collective import loss_of_process


def is_no_user_error(record: logging.LogRecord) -> bool:
    """A logging filter: False for what was logged on behalf of a :class:`UserError`.

    Detectron2's trainer logs whatever ends the training with its traceback. Of a user's error the
    entry point prints the one sentence.
    """
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, UserError) and loss_of_process(error) is None


def hide_user_errors() -> None:
    """Keep the tracebacks of users' errors out of what Detectron2's trainer logs."""
    logging.getLogger("detectron2.engine.train_loop").addFilter(is_no_user_error)
