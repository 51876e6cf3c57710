"""One task from claim to end: read its pages, ask the model about them, keep every finished step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from docv2.config import RuntimeConfig
from docv2.documents import MediaType, Page, PageSource
from docv2.errors import (
    CannotSee,
    ClaimLost,
    Crashed,
    DocumentError,
    DocV2Error,
    OutOfTime,
    ParserDied,
    TaskError,
    UpstreamUnavailable,
)
from docv2.events import Changes
from docv2.extract.base import read
from docv2.llm.catalog import Catalog, Model
from docv2.llm.client import Client, Reply
from docv2.llm.health import EndpointHealth
from docv2.sandbox import Sandbox
from docv2.storage.base import Storage
from docv2.store.base import Store
from docv2.tasks import Part, Result, Stage, Task
from docv2.worker.folders import WorkFolders

log = logging.getLogger(__name__)

READING_TRIES = 2
"""A document whose parser died is read once more, from the page it died on."""

READING_SHARE = 30.0
"""Percent of the progress that reading makes up."""
