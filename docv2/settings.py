"""Process settings: what is fixed from start to end. Name, default and help in one place; docs are made from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticUndefined

from docv2.errors import StartError

OWN_PREFIXES = ("DOCV2_", "API_V2_")
"""An unknown variable under these is a mistake of ours to report; any other is not our business."""


def _env(name: str, default: Any = PydanticUndefined, *, also: tuple[str, ...] = (), help: str, **rules: Any) -> Any:
    """A field read from the variable `name` (or one of `also`)."""
    return Field(default, validation_alias=AliasChoices(name, *also), description=help, **rules)


class Settings(BaseModel):
    """Everything read from the environment and `.env`."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    host: str = _env("DOCV2_HOST", "127.0.0.1", help="Address to listen on. Anything but loopback belongs behind a proxy.")
    port: Annotated[int, Field(ge=0, le=65535)] = _env(
        "DOCV2_PORT", 3000, help="Port to listen on; 0 takes a free one and prints it."
    )
    data_dir: Path = _env(
        "DOCV2_DATA_DIR", Path("docv2-data"), help="Folder of the database, the files and the generated secrets."
    )
    log_format: Literal["human", "json"] = _env("DOCV2_LOG_FORMAT", "human", help="One line an event: human or json.")
    log_file: Path | None = _env("DOCV2_LOG_FILE", None, help="File that also gets the log; reopened when it is moved.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _env(
        "OPEN_WEBUI_LOG_LEVEL", "INFO", help="Least level that is logged."
    )
    openai_base_urls: tuple[str, ...] = _env(
        "OPENAI_API_BASE_URLS",
        (),
        also=("OPENAI_API_BASE_URL",),
        help="Base URLs of OpenAI-compatible endpoints, separated by `;`. None: the embedded reader answers.",
    )
    openai_keys: tuple[SecretStr, ...] = _env(
        "OPENAI_API_KEYS",
        (),
        also=("OPENAI_API_KEY",),
        help="Their keys in the same order, separated by `;`. One key serves all; an empty one sends none.",
    )
    enabled: bool = _env("API_V2_ENABLED", True, help="Whether new documents are accepted.")
    max_file_size: Annotated[int, Field(ge=1)] = _env(
        "API_V2_MAX_FILE_SIZE", 50 * 1024 * 1024, help="Largest upload in bytes."
    )
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] | None = _env(
        "API_V2_MAX_CONCURRENT", None, help="Tasks worked on at once. Unset: from the memory, 1 below 16 GB to 30."
    )
    timeout: Annotated[float, Field(gt=0)] = _env(
        "API_V2_TIMEOUT", 300.0, help="Seconds a task may take since it last finished a page or a part."
    )
    admin_model: str = _env(
        "API_V2_ADMIN_MODEL", "", help="Default model. Empty: gpt-4-vision if listed, else the first that can see."
    )
    max_task_seconds: Annotated[float, Field(gt=0)] = _env(
        "DOCV2_MAX_TASK_SECONDS", 6 * 3600.0, help="Seconds that a task may run in all."
    )
    drain_seconds: Annotated[float, Field(ge=0)] = _env(
        "DOCV2_DRAIN_SECONDS", 30.0, help="Seconds that running tasks have to finish after SIGTERM."
    )
    retention_hours: Annotated[float, Field(gt=0)] = _env(
        "DOCV2_RETENTION_HOURS", 24.0, help="Hours until an ended task is removed."
    )
    memory_warning: Annotated[float, Field(gt=0, le=100)] = _env(
        "DOCV2_MEMORY_WARNING", 85.0, help="Percent of memory in use at which only half of the pool works."
    )
    memory_hold: Annotated[float, Field(gt=0, le=100)] = _env(
        "DOCV2_MEMORY_HOLD", 90.0, help="Percent of memory in use at which no task starts."
    )
    memory_critical: Annotated[float, Field(gt=0, le=100)] = _env(
        "DOCV2_MEMORY_CRITICAL", 95.0, help="Percent of memory in use at which uploads are refused."
    )
    parser_memory: Annotated[int, Field(ge=256)] = _env(
        "DOCV2_PARSER_MEMORY_MB", 2048, help="Address space of one reading child in MiB."
    )

    @field_validator("openai_base_urls", "openai_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(item.strip() for item in value.split(";")) if isinstance(value, str) else value

    @field_validator("openai_base_urls")
    @classmethod
    def _urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        urls = tuple(url.rstrip("/") for url in urls if url)
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError("each must start with http:// or https://")
        return urls


def names() -> dict[str, str]:
    """Every variable that is read, with the name of its field."""
    found: dict[str, str] = {}
    for field, info in Settings.model_fields.items():
        assert isinstance(info.validation_alias, AliasChoices)
        found.update({str(choice): field for choice in info.validation_alias.choices})
    return found


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment over the `.env` file; StartError names the first thing that is wrong."""
    environ = os.environ if environ is None else environ
    env_file = environ.get("DOCV2_ENV_FILE")
    if env_file and not Path(env_file).is_file():
        raise StartError(f"DOCV2_ENV_FILE={env_file}: no such file")
    values = {**_read_env_file(Path(env_file or ".env")), **environ}
    values.pop("DOCV2_ENV_FILE", None)
    known = names()
    for name in sorted(values):
        if name.startswith(OWN_PREFIXES) and name not in known:
            raise StartError(f"{name}: unknown setting; known are {', '.join(sorted(n for n in known if n.startswith(OWN_PREFIXES)))}")
    try:
        return Settings.model_validate({name: values[name] for name in known if values.get(name, "") != ""})
    except ValidationError as error:
        raise StartError(_explain(error, values)) from None


def _read_env_file(path: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(path).items() if value is not None} if path.is_file() else {}


def _explain(error: ValidationError, values: Mapping[str, str]) -> str:
    """One line: the variable, its value unless it is a secret, and what is allowed."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    shown = "(hidden)" if "KEY" in name else repr(values.get(name, ""))
    return f"{name}={shown}: {first['msg']}"
