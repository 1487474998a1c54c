"""Structured logs on standard error: for people on a terminal, as JSON lines elsewhere."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import ExcInfo
from typing_extensions import override

from macbind.config import ServiceSettings
from macbind.core.printable import visible

_log = structlog.get_logger()


class _LibraryLogs(logging.Handler):
    """What libraries log, in our format."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        _log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _show_all(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keeps what others have written from steering the terminal; JSON is ASCII anyway."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in entry.items()}


def _plain_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """A traceback of lines of code. The values of variables are left out, for a secret may be among them."""
    lines = "".join(traceback.format_exception(*exc_info)).rstrip("\n").split("\n")
    out.write("".join(f"\n{visible(line)}" for line in lines))


def set_up_logging(settings: ServiceSettings) -> None:
    """Makes the log as configured; it may be called again."""
    for_people = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *(
                (
                    _show_all,
                    structlog.dev.ConsoleRenderer(
                        colors=sys.stderr.isatty(), exception_formatter=_plain_traceback
                    ),
                )
                if for_people
                else (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryLogs()], level=logging.WARNING, force=True)
    # What uvicorn warns of is bad clients, once for each request; service/limits.py logs them in fewer lines.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
