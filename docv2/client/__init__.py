"""Ask a docv2 server from Python.

    from docv2.client import Client

    with Client(api_key="sk-…") as client:
        task = client.process("lease.pdf", "What is the monthly rent?")
        print(client.wait(task.task_id).content)

Needs httpx2 and nothing else: none of the server's code is imported.
"""

from docv2.client.aio import AsyncClient
from docv2.client.errors import (
    APIError,
    AuthError,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    RejectedFile,
    TaskFailed,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from docv2.client.models import Config, Health, Model, Models, Result, Task, TaskList
from docv2.client.sync import Client

__all__ = [
    "APIError",
    "AsyncClient",
    "AuthError",
    "Client",
    "ClientError",
    "Config",
    "Conflict",
    "Health",
    "InvalidRequest",
    "Model",
    "Models",
    "NotFound",
    "RateLimited",
    "RejectedFile",
    "Result",
    "Task",
    "TaskFailed",
    "TaskList",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "WaitTimeout",
]
