"""The error tree: what went wrong, which HTTP status says so, and whether trying again helps.

    DocV2Error                      status  error_type
    ├── RequestError                        the caller can mend it
    │   ├── BadRequest              400     validation_error
    │   ├── InvalidValue            422     validation_error
    │   ├── Unreadable              422     processing_error    only where a document is read at once, for a quote
    │   ├── FileTooLarge            413     validation_error
    │   ├── UnsupportedType         415     validation_error
    │   ├── Conflict                409     validation_error
    │   ├── Unauthenticated         401     auth_error
    │   ├── Forbidden               403     auth_error
    │   ├── NotFound                404     system_error
    │   ├── MethodNotAllowed        405     system_error
    │   └── RateLimited             429     rate_limit_error    Retry-After
    ├── Unavailable                 503     system_error        Retry-After
    │   └── DiskFull                507     system_error
    ├── TaskError                           a task ends as failed; told in its status
    │   ├── DocumentError           -       processing_error    the file cannot be read
    │   │   └── OverLimit           -       processing_error    reading it takes more memory or time than allowed
    │   ├── ModelError              -       processing_error    the model's answer cannot be used
    │   │   ├── CannotSee           -       processing_error    the model takes no pictures
    │   │   ├── UnfitAnswer         -       processing_error    the answer does not fit the form that was wanted
    │   │   └── ContextExceeded     -       processing_error    more than the model's context holds
    │   ├── OutOfTime               -       timeout_error
    │   ├── Crashed                 -       system_error        the server or a parser died too often
    │   └── Cancelled               -       cancelled
    ├── UpstreamUnavailable                 the endpoint, not the task: the task waits and tries again
    ├── ParserDied                          a reading child ended without a word; tried once more
    ├── ClaimLost                           another attempt owns the task; this one must stop
    └── StartError                          the process cannot start; one line, exit status 2

The message of a RequestError, Unavailable or TaskError is shown to clients: it never holds a path, SQL, a secret or a
traceback.
"""

from __future__ import annotations

from typing import ClassVar


class DocV2Error(Exception):
    """Root of everything docv2 raises on purpose."""

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "system_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds after which trying again makes sense; None where it does not or nobody knows."""
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.quoted = ""
        """A part of the message that an endpoint chose. It may repeat the prompt, so it is for no log."""

    @property
    def for_log(self) -> str:
        """The message without what it quotes."""
        return self.message.replace(self.quoted, "(told to its owner)") if self.quoted else self.message


class RequestError(DocV2Error):
    """The caller sent something that cannot be accepted."""

    status = 400
    error_type = "validation_error"


class BadRequest(RequestError):
    """The request's form is wrong: not multipart, a field missing, a number unreadable."""


class InvalidValue(RequestError):
    """A value is readable but not allowed."""

    status = 422


class Unreadable(RequestError):
    """The document was read at once, and the task would fail for what was found."""

    status = 422
    error_type = "processing_error"


class FileTooLarge(RequestError):
    """More bytes than the configured limit."""

    status = 413


class UnsupportedType(RequestError):
    """The file's type is not supported, blocked, or not what its name says."""

    status = 415


class Conflict(RequestError):
    """The request contradicts what already happened."""

    status = 409


class Unauthenticated(RequestError):
    """No credentials, or none that are valid."""

    status = 401
    error_type = "auth_error"


class Forbidden(RequestError):
    """Valid credentials that do not allow this."""

    status = 403
    error_type = "auth_error"


class NotFound(RequestError):
    """No such task or route, or none that this caller may know of."""

    status = 404
    error_type = "system_error"


class MethodNotAllowed(RequestError):
    """The route exists, this method on it does not."""

    status = 405
    error_type = "system_error"


class RateLimited(RequestError):
    """Too many submissions by this user."""

    status = 429
    error_type = "rate_limit_error"


class Unavailable(DocV2Error):
    """docv2 cannot do this now: disabled, draining, short of memory, database busy."""

    status = 503


class DiskFull(Unavailable):
    """No room to keep what was sent."""

    status = 507


class TaskError(DocV2Error):
    """Ends a task as failed, with this message in its status."""

    error_type = "processing_error"
    quotes: ClassVar[bool] = False
    """Whether the message may hold words of the document, which are for its owner and for no log."""


class DocumentError(TaskError):
    """The document cannot be read."""


class OverLimit(DocumentError):
    """Reading takes more memory or time than allowed."""


class ModelError(TaskError):
    """The model's answer cannot be used, or the endpoint refuses the request for good."""


class CannotSee(ModelError):
    """The model refused a picture."""


class UnfitAnswer(ModelError):
    """The answer does not fit the form that was wanted."""

    quotes = True


class ContextExceeded(ModelError):
    """The request holds more than the model's context."""


class OutOfTime(TaskError):
    """No page or part was finished within the time limit."""

    error_type = "timeout_error"


class Crashed(TaskError):
    """The server or the document's parser died too often on this task."""

    error_type = "system_error"


class Cancelled(TaskError):
    """The caller cancelled the task."""

    error_type = "cancelled"


class UpstreamUnavailable(DocV2Error):
    """A model endpoint did not do its part; the same request may succeed later.

    `endpoint_down` tells the endpoint being unreachable or saying so (refused, 429, 502, 503, 529) from it failing on
    this request (500, 504, cut or empty answer), which counts against the task. `endpoint` is its name, for whoever
    keeps count; it is not shown.
    """

    def __init__(
        self, message: str, *, endpoint_down: bool, retry_after: float | None = None, endpoint: str = ""
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.endpoint_down = endpoint_down
        self.endpoint = endpoint


class ParserDied(DocV2Error):
    """A child process ended without finishing and without naming an error."""


class ClaimLost(DocV2Error):
    """The task is no longer this attempt's: cancelled, or claimed by another."""


class StartError(DocV2Error):
    """The process cannot start as configured."""
