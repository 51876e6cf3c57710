"""What an administrator changes while docv2 runs. Everyone reads it anew where they need it."""

from __future__ import annotations

from dataclasses import dataclass

from docv2.settings import Settings

DEFAULT_TEMPERATURE = 0.7
DEFAULT_MAX_TOKENS = 8000


@dataclass(frozen=True, slots=True)
class Config:
    """One consistent set of values."""

    enabled: bool
    max_file_size: int
    """Bytes."""
    max_concurrent: int
    timeout: float
    """Seconds that a task may take since it last finished a page or a part."""
    max_task_seconds: float
    admin_model: str
    """Empty: chosen from the catalogue."""
    temperature: float = DEFAULT_TEMPERATURE
    max_tokens: int = DEFAULT_MAX_TOKENS


class RuntimeConfig:
    """Holds the set that is in force."""

    def __init__(self, current: Config) -> None:
        self.current = current


def from_settings(settings: Settings, *, total_memory: int) -> Config:
    """The values in force before an administrator changed any. `total_memory` in bytes."""
    return Config(
        enabled=settings.enabled,
        max_file_size=settings.max_file_size,
        max_concurrent=settings.max_concurrent or automatic_concurrency(total_memory),
        timeout=settings.timeout,
        max_task_seconds=settings.max_task_seconds,
        admin_model=settings.admin_model,
    )


def automatic_concurrency(total_memory: int) -> int:
    """Tasks at once for a memory of so many bytes: 1 below 16 GB, 3 a 16 GB, at most 30.

    520 MB a task within 70 % of the memory bounds it as well.
    """
    gigabytes = -(-total_memory // 1024**3)
    if gigabytes < 16:
        return 1
    return int(min(30, gigabytes * 3 / 16, gigabytes * 1024 * 0.7 / 520))
