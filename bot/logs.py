"""The log: lines for people on a terminal, JSON lines elsewhere, and no secret in either.

structlog on top of the standard library's logging, so that the lines of uvicorn, DBOS and huggingface_hub go the same
way. A line is a sentence and fields; a build's worker binds the build, its repo and its backend to every line.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING

import structlog
from structlog.stdlib import BoundLogger, ExtraAdder, LoggerFactory, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from bot.redaction import redacted_fields

if TYPE_CHECKING:
    from bot.settings import Settings

BUILDS = "bot.journal"  # says what the builds say; a command shows that itself
# What logging calls the parts of a line itself. It raises where a field has such a name, and libraries have them.
_TAKEN = {*logging.makeLogRecord({}).__dict__, "message", "asctime"} - {"exc_info", "stack_info"}


def _renamed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {f"{name}_" if name in _TAKEN else name: value for name, value in event.items()}


structlog.configure(
    processors=[structlog.stdlib.filter_by_level, _renamed, structlog.stdlib.render_to_log_args_and_kwargs],
    logger_factory=LoggerFactory(),
    wrapper_class=BoundLogger,
)


def get_logger(name: str) -> BoundLogger:
    """The logger of a module."""
    logger: BoundLogger = structlog.get_logger(name)
    return logger


def for_commands() -> None:
    """Only warnings, on stderr. What a command does, it tells by itself."""
    _listen(formatter(json=False, colors=False), logging.WARNING)
    logging.getLogger(BUILDS).setLevel(logging.CRITICAL)


def for_services(settings: Settings) -> None:
    """Everything that an operator wants to know of what runs for days, errors that nobody foresaw among it."""
    on_terminal = sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
    _listen(formatter(json=as_json, colors=on_terminal), settings.log_level.upper())
    logging.getLogger(BUILDS).setLevel(logging.NOTSET)
    logging.captureWarnings(True)
    sys.excepthook = _unforeseen
    threading.excepthook = lambda late: _unforeseen(late.exc_type, late.exc_value, late.exc_traceback)


def adopt(library: str) -> None:
    """Let a library's lines go the way of all others, and not past them through a handler of its own."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True


def formatter(*, json: bool, colors: bool) -> ProcessorFormatter:
    """What makes a line of a record."""
    return ProcessorFormatter(
        foreign_pre_chain=[
            ExtraAdder(),
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redact,
            _rendered_as(json=json, colors=colors),
        ],
    )


def _rendered_as(*, json: bool, colors: bool) -> Processor:
    if json:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    fields: EventDict = redacted_fields(event)
    return fields


def _listen(lines: logging.Formatter, level: str | int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(lines)
    # Libraries tell of each request and each poll at the level of information.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("bot").setLevel(level)
    # A line that cannot be written would be printed as it came, with whatever is in it.
    logging.raiseExceptions = False
    # Retries are told by the error they end in, if they do.
    logging.getLogger("stamina").setLevel(logging.ERROR)


def _unforeseen(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, (KeyboardInterrupt, SystemExit)):
        return
    get_logger(__name__).critical("This was not foreseen.", exc_info=(kind, error, trace))
