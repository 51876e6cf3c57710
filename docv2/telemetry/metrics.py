"""Metrics: what Prometheus asks for at /metrics.

The names that begin with `api_v2_` are those of the administrator's guide; all others begin with `docv2_`, but for the
process's own. A label takes its values from a list that a client cannot lengthen: routes, stages, configured endpoints.
"""

from __future__ import annotations

import time
from functools import lru_cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

ERROR_WINDOW = 15 * 60.0
"""Seconds over which `api_v2_error_rate` is taken."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks about
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600)
_TOKENS = (100, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000)
_MIB = 1024**2

# -- the guide's ------------------------------------------------------------------------------------------------------
ACTIVE = Gauge("api_v2_active_tasks_total", "Tasks that are worked on.", registry=REGISTRY)
QUEUE = Gauge("api_v2_queue_length", "Tasks that wait.", registry=REGISTRY)
MEMORY = Gauge("api_v2_memory_usage_percent", "Memory in use, of what the service may have.", registry=REGISTRY)
PROCESSING = Histogram(
    "api_v2_processing_time_seconds",
    "From the first start of a task to its answer.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
ERROR_RATE = Gauge(
    "api_v2_error_rate", "Failed of all tasks that ended in the last 15 minutes, 0 to 1.", registry=REGISTRY
)
COMPLETED = Counter("api_v2_completed_tasks", "Tasks that ended, however.", registry=REGISTRY)

# -- tasks ------------------------------------------------------------------------------------------------------------
FAILED = Counter("docv2_failed_tasks", "Tasks that failed, by type of error.", ["error_type"], registry=REGISTRY)
STARTED = Counter("docv2_started_tasks", "Tasks taken from the queue, each attempt anew.", registry=REGISTRY)
STEPS = Counter("docv2_finished_steps", "Pages read and parts answered: the pulse of the work.", registry=REGISTRY)
QUEUE_WAIT = Histogram(
    "docv2_queue_wait_seconds", "From acceptance to the first start.", buckets=_SECONDS, registry=REGISTRY
)
STAGE = Histogram("docv2_stage_seconds", "What a stage of a task took.", ["stage"], buckets=_SECONDS, registry=REGISTRY)
ESTIMATE = Histogram(
    "docv2_estimate_ratio",
    "Time from acceptance to answer over what was estimated; 1 is right.",
    buckets=(0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2, 4),
    registry=REGISTRY,
)
PARSER_MEMORY = Histogram(
    "docv2_parser_peak_bytes",
    "Most memory that the child held which read a document.",
    buckets=[size * _MIB for size in (32, 64, 128, 256, 520, 1024, 2048)],
    registry=REGISTRY,
)

# -- models -----------------------------------------------------------------------------------------------------------
CALL = Histogram(
    "docv2_model_call_seconds", "What an answered call took.", ["endpoint"], buckets=_SECONDS, registry=REGISTRY
)
TOKENS = Histogram(
    "docv2_model_call_tokens",
    "Tokens of a call, by what they were for.",
    ["kind"],
    buckets=_TOKENS,
    registry=REGISTRY,
)
UPSTREAM_ERRORS = Counter(
    "docv2_upstream_errors",
    "Calls that an endpoint did not answer: it is `down`, or `failed` on the one call.",
    ["endpoint", "kind"],
    registry=REGISTRY,
)
BLOCKED_MODELS = Gauge(
    "docv2_blocked_models", "Models whose tasks wait because their endpoint fails.", registry=REGISTRY
)

# -- caches -----------------------------------------------------------------------------------------------------------
MODEL_CACHE, PROCESSING_CACHE = "model", "processing"
CACHE_HITS = Counter(
    "docv2_cache_hits", "Answers given and documents taken from a cache.", ["cache"], registry=REGISTRY
)
CACHE_MISSES = Counter("docv2_cache_misses", "Looked for in a cache and not found.", ["cache"], registry=REGISTRY)
CACHE_BYTES = Gauge("docv2_cache_bytes", "Pages kept for documents that are sent again.", ["cache"], registry=REGISTRY)

# -- the server -------------------------------------------------------------------------------------------------------
INFO = Gauge("docv2_info", "1; the label says which docv2 this is.", ["version"], registry=REGISTRY)
ENABLED = Gauge("docv2_accepting", "1 while documents are accepted.", registry=REGISTRY)
SLOTS = Gauge(
    "docv2_slots", "Tasks that may work at once now; fewer than set while memory is short.", registry=REGISTRY
)
GATE = Gauge("docv2_memory_level", "0 normal, 1 warning, 2 no task starts, 3 uploads are refused.", registry=REGISTRY)
DISK_FREE = Gauge("docv2_disk_free_bytes", "Free on the disk of the data folder.", registry=REGISTRY)
DISK_TOTAL = Gauge("docv2_disk_size_bytes", "Size of the disk of the data folder.", registry=REGISTRY)
DATABASE = Gauge("docv2_database_bytes", "Size of the database.", registry=REGISTRY)
DATABASE_LOG = Gauge("docv2_database_log_bytes", "Size of its write-ahead log.", registry=REGISTRY)
DATABASE_UP = Gauge("docv2_database_up", "1 while the database answers.", registry=REGISTRY)
LAST_BACKUP = Gauge(
    "docv2_last_backup_timestamp_seconds", "When the last backup ended (Unix seconds); 0: never.", registry=REGISTRY
)
REQUESTS = Counter("docv2_http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "docv2_http_request_seconds",
    "What answering took; waiting for a change by `wait` included.",
    ["route"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 30, 60),
    registry=REGISTRY,
)

# Series that alerts look at are there from the start: of one that appears with its first count, no rise can be told.
for _error_type in ("processing_error", "timeout_error", "system_error", "cancelled"):
    FAILED.labels(_error_type)
for _stage in ("reading", "asking", "combining"):
    STAGE.labels(_stage)
for _cache in (MODEL_CACHE, PROCESSING_CACHE):
    CACHE_HITS.labels(_cache)
    CACHE_MISSES.labels(_cache)
CACHE_BYTES.labels(PROCESSING_CACHE)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def task_started(*, created_at: float, started_at: float | None, attempt: int) -> None:
    """A task was taken from the queue; times in Unix seconds."""
    STARTED.inc()
    if attempt == 1 and started_at is not None:
        QUEUE_WAIT.observe(max(0.0, started_at - created_at))


def task_completed(*, created_at: float, started_at: float | None, estimated: float | None) -> None:
    """A task was answered. `estimated`: seconds from acceptance to its end, as told then."""
    now = time.time()
    COMPLETED.inc()
    PROCESSING.observe(max(0.0, now - (started_at or now)))
    if estimated:
        ESTIMATE.observe(max(0.0, now - created_at) / estimated)


def task_failed(error_type: str) -> None:
    """A task ended without an answer."""
    COMPLETED.inc()
    FAILED.labels(error_type).inc()


def model_called(endpoint: str, seconds: float, *, prompt_tokens: int, completion_tokens: int) -> None:
    """An endpoint answered a call."""
    CALL.labels(endpoint).observe(seconds)
    TOKENS.labels("prompt").observe(prompt_tokens)
    TOKENS.labels("completion").observe(completion_tokens)


def cache_asked(cache: str, *, found: bool) -> None:
    """Something was looked for in a cache."""
    (CACHE_HITS if found else CACHE_MISSES).labels(cache).inc()


def upstream_failed(endpoint: str, *, down: bool) -> None:
    """An endpoint did not answer a call."""
    UPSTREAM_ERRORS.labels(endpoint, "down" if down else "failed").inc()


def request_answered(method: str, route: str, status: int, seconds: float) -> None:
    """A request was answered; `route` as in the table of routes, "" for an address that we do not have."""
    requests, request_seconds = _requests(method if method in METHODS else "other", route or "unknown", str(status))
    requests.inc()
    request_seconds.observe(seconds)


@lru_cache(maxsize=1024)
def _requests(method: str, route: str, status: str) -> tuple[Counter, Histogram]:
    """The two metrics of such requests. Kept, since looking them up by their labels takes longer than counting."""
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(route)


def exposition() -> bytes:
    """All of them in Prometheus's text format. It reads files of /proc: not on the event loop."""
    return generate_latest(REGISTRY)
