"""Hooks for the generated requests, loaded by schemathesis: what the description of the API has no words for."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

CONTRADICTIONS = ("must be another one", "say different things")
"""Ends of refusals that are about two fields at once."""

SHORT_WAIT = 0.01

UNSAID = (
    "Unknown model; ",  # which models there are
    "response_format must be ",  # what JSON in a text is about
    "The e-mail address must look like ",  # which characters can be printed
    "The name must be at most ",
    "memory_management warning_threshold, hold_threshold and emergency_stop_threshold must not descend",
)
"""Refusals of valid requests that JSON Schema cannot foretell."""


@schemathesis.hook
def map_query(context: HookContext, query: dict[str, Any]) -> dict[str, Any]:
    # Nothing happens to a task here, so that a long look would take its time in full.
    wait = query.get("wait") if query else None
    return {**query, "wait": SHORT_WAIT} if isinstance(wait, float | int) and 0 < wait <= 60 else query


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    match type(failure).__name__:
        case "UseAfterFree":
            # DELETE ends a task; that it was ended is told as long as tasks are kept.
            return False
        case "AcceptedNegativeData":
            # By default 413 counts as no refusal; a body that is too large is not even looked into.
            return response.status_code != 413
        case "RejectedPositiveData":
            # Neither can it say that a file is what its name says (415), or is a whole document (processing_error).
            answer = response.json()
            document = response.status_code == 415 or answer["error_type"] == "processing_error"
            if document and case.path == "/api/v2/process":
                return False
            return not (answer["detail"].startswith(UNSAID) or answer["detail"].endswith(CONTRADICTIONS))
    return True
