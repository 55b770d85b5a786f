"""The error tree.

::

    WispError
    ├── DescriptionError     the author must change the text   (problems: file, line, path, hint)
    ├── StateError           StaleWrite · UnknownInstance · InvalidTransition
    └── DriverError          carries driver, operation, subject
        ├── TransientDriverError   try again                   (retry_after)
        ├── PermanentDriverError   do not try again
        └── UnsupportedOperation   absent from capabilities

A message says what failed, on what, why, and what to do.
"""

from collections.abc import Sequence

from wisp.primitives.time import Duration
from wisp.primitives.values import frozen


class WispError(Exception):
    """Anything Wisp raises on purpose."""


@frozen
class Problem:
    """One thing that is wrong with a description.

    Attributes:
        file: Name of the text as the author knows it.
        line: Line in it, from 1; ``None`` where the whole file is meant.
        path: Where in the document, as ``hosts.mini-pc-1.memory``.
        what: What is wrong.
        hint: What to do about it; empty where ``what`` already says it.
    """

    file: str
    line: int | None
    path: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        """Give one line: ``file:line: path: what (hint)``."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {self.path}: {self.what}{hint}" if self.path else f"{place}: {self.what}{hint}"


class DescriptionError(WispError):
    """A description was refused whole; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class StateError(WispError):
    """What was asked does not fit what is there."""


class StaleWrite(StateError):
    """Somebody else wrote in between: read again, then decide again."""


class UnknownInstance(StateError):
    """No instance of that name."""


class InvalidTransition(StateError):
    """The life cycle has no such step."""


class DriverError(WispError):
    """A driver could not do what it was asked.

    Args:
        message: What failed, why, and what to do.
        driver: Which driver, as ``unikernel/spt`` or ``network``.
        operation: What it was doing.
        subject: What it was doing it to.
    """

    def __init__(self, message: str, *, driver: str = "", operation: str = "", subject: str = "") -> None:
        super().__init__(message)
        self.driver, self.operation, self.subject = driver, operation, subject


class TransientDriverError(DriverError):
    """Worth trying again, after ``retry_after`` where that is known."""

    def __init__(
        self,
        message: str,
        *,
        driver: str = "",
        operation: str = "",
        subject: str = "",
        retry_after: Duration | None = None,
    ) -> None:
        super().__init__(message, driver=driver, operation=operation, subject=subject)
        self.retry_after = retry_after


class PermanentDriverError(DriverError):
    """Trying again would fail the same way."""


class UnsupportedOperation(DriverError):
    """The driver's capabilities do not name this operation."""


class MissingPrerequisite(PermanentDriverError):
    """The machine lacks something; ``remedy`` is the line that mends it."""

    def __init__(self, message: str, *, remedy: str, driver: str = "", operation: str = "") -> None:
        super().__init__(f"{message}; {remedy}", driver=driver, operation=operation)
        self.remedy = remedy
