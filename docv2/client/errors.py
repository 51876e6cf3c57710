"""What can go wrong when talking to a docv2 server.

ClientError
├── Unreachable             no answer: refused, cut off, timed out, name unknown
├── UnexpectedAnswer        an answer, but not docv2's: a proxy's page, a redirect, another service
├── APIError                docv2 says no
│   ├── InvalidRequest      400, 422    the question, a parameter or the form is wrong
│   ├── AuthError           401, 403    no valid key, or one that may not do this
│   ├── NotFound            404         no such task, or not the caller's
│   ├── Conflict            409         the task has ended, or an idempotency key was used for another request
│   ├── RejectedFile        413, 415    too large, or a type that is not supported
│   ├── RateLimited         429         too many submissions
│   └── Unavailable         5xx         disabled, draining, short of memory or disk; a proxy's 502 and 504
├── TaskFailed              the task ended without an answer; `error_type` says how, `task` has it all
└── WaitTimeout             the task goes on, the caller's time is up; a TimeoutError as well
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docv2.client.models import Task


class ClientError(Exception):
    """Root of everything the client raises on purpose."""

    def __init__(
        self,
        detail: str,
        *,
        error_type: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`status`: the HTTP status, None where there was no answer. `retry_after`: seconds, None where nobody said."""
        super().__init__(detail)
        self.detail = detail
        self.error_type = error_type
        self.request_id = request_id
        self.status = status
        self.retry_after = retry_after


class Unreachable(ClientError):
    """The server gave no answer."""


class UnexpectedAnswer(ClientError):
    """The answer is not one that docv2 gives; the address is probably another service's."""


class APIError(ClientError):
    """The server refused the request."""


class InvalidRequest(APIError):
    """The question, a parameter or the form is wrong."""


class AuthError(APIError):
    """No valid credentials, or valid ones that do not allow this."""


class NotFound(APIError):
    """No such task, or none that this caller may know of."""


class Conflict(APIError):
    """The request contradicts what already happened."""


class RejectedFile(APIError):
    """The file is too large, or its type is not supported."""


class RateLimited(APIError):
    """Too many submissions; `retry_after` says when to try again."""


class Unavailable(APIError):
    """The server cannot do this now."""


class TaskFailed(ClientError):
    """The task ended without an answer. `detail` says why, `error_type` is `cancelled` where someone wanted it so."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.error or "the task failed without saying why", error_type=task.error_type)
        self.task = task


class WaitTimeout(ClientError, TimeoutError):
    """The task did not end in time. It goes on; `task` is what was last heard of it, None where that is nothing."""

    def __init__(self, task_id: str, timeout: float, task: Task | None) -> None:
        super().__init__(f"task {task_id} did not end within {timeout:g} s")
        self.task_id = task_id
        self.task = task


BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequest,
    401: AuthError,
    403: AuthError,
    404: NotFound,
    409: Conflict,
    413: RejectedFile,
    415: RejectedFile,
    422: InvalidRequest,
    429: RateLimited,
}
"""The class of a refusal; any 5xx is Unavailable, any other a plain APIError."""
