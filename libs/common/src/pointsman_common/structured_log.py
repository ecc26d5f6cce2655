"""Log lines as events with fields: `log.info("bus-lost", url=url)`.

Nothing of a prompt is ever logged.
"""

import logging
import sys

import structlog
from structlog.typing import FilteringBoundLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def configure_log(*, level: str = "info", form: str = "text") -> None:
    """Write to standard error, as text for people or as JSON lines (`form="json"`)."""
    # Tracebacks are plain: a pretty one would show local variables, and so prompts.
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(part: str) -> FilteringBoundLogger:
    """A logger whose lines name the part of the service that wrote them."""
    logger: FilteringBoundLogger = structlog.get_logger(part=part)
    return logger
