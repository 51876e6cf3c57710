"""Process settings: what is fixed from start to end. Name, default and meaning in one place; docs are made from it."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Container, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from docv2.errors import StartError

OWN_PREFIXES = ("DOCV2_", "API_V2_")
"""An unknown variable under these is a mistake of ours to report; any other is not our business."""

ENV_FILE = "DOCV2_ENV_FILE"
"""Names the file that is read below the environment; `.env` of the working folder where it is not set."""

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Names a folder in which each file is a variable: its name the variable's, its text the value. systemd sets it for
`LoadCredential=`, and a container may for its secrets, so that no secret need stand in an environment."""

OF_OTHERS = (ENV_FILE, "DOCV2_URL", "DOCV2_API_KEY")
"""Names under our prefix that are no settings: the file itself, and what the client reads."""

AUTO = "auto"
"""In place of addresses: look for endpoints on this machine."""

OWN_SOURCE = "API_V2"
"""Our name in SRC_LOG_LEVELS."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Percent = Annotated[float, Field(gt=0, le=100)]
Seconds = Annotated[float, Field(gt=0)]


def _env(*names: str, default: Any, about: str) -> Any:
    """A field read from the first of these variables that is set."""
    return Field(default, description=about, json_schema_extra={"env": list(names)})


class Settings(BaseModel):
    """Everything read from the environment and the environment file. Field names are for the code, `env` for people."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    host: str = _env(
        "DOCV2_HOST", default="127.0.0.1", about="Address to listen on. Anything but loopback belongs behind a proxy."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = _env(
        "DOCV2_PORT", default=3000, about="Port to listen on; 0 takes a free one and prints it."
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _env(
        "DOCV2_TRUSTED_PROXIES",
        default=(),
        about="Addresses or networks of proxies whose `X-Forwarded-For` is believed, separated by `;`. None: nobody's.",
    )
    data_dir: Path = _env(
        "DOCV2_DATA_DIR",
        default=Path("docv2-data"),
        about="Folder of the database, the files and the generated secrets.",
    )
    log_format: Literal["human", "json"] = _env("DOCV2_LOG_FORMAT", default="human", about="How a log line is written.")
    log_file: Path | None = _env(
        "DOCV2_LOG_FILE", default=None, about="File that also gets the log; reopened when it is moved."
    )
    log_level: LogLevel = _env("OPEN_WEBUI_LOG_LEVEL", default="INFO", about="Least level that is logged.")
    source_log_levels: dict[str, str] = _env(
        "SRC_LOG_LEVELS",
        default={},
        about="Levels by source; `API_V2` is docv2 and wins over the level above, `API_V2.WORKER` is one part of it: "
        '`{"API_V2": "DEBUG"}`.',
    )
    debug: bool = _env("DEBUG", default=False, about="`true`: everything is logged, unless SRC_LOG_LEVELS says less.")
    audit_log_level: Literal["NONE", "METADATA", "REQUEST", "REQUEST_RESPONSE"] = _env(
        "AUDIT_LOG_LEVEL",
        default="METADATA",
        about="What the audit keeps of each authenticated call: nothing, who called what, the names and sizes of what "
        "was sent as well, the size of the answer as well. Never contents.",
    )
    audit_log_file: Path | None = _env(
        "AUDIT_LOGS_FILE_PATH", default=None, about="File of the audit. Not set: `audit.log` in the data folder."
    )
    audit_rotation_size: Annotated[int, Field(ge=1024)] = _env(
        "AUDIT_LOG_FILE_ROTATION_SIZE",
        default=10 * 1024**2,
        about="Bytes, or such as `10MB`, at which a new audit file is begun; ten older ones are kept.",
    )
    audit_retention_days: Annotated[float, Field(gt=0)] | None = _env(
        "DOCV2_AUDIT_RETENTION_DAYS",
        default=None,
        about="Days for which audit records are kept; their file goes a tenth of it later at most. Not set: as long as "
        "there is room.",
    )
    audit_excluded_paths: Annotated[tuple[str, ...], Field(json_schema_extra={"separator": ","})] = _env(
        "AUDIT_EXCLUDED_PATHS",
        default=(),
        about="Beginnings of addresses that the audit leaves out, separated by `,`.",
    )
    storage_provider: Literal["local"] = _env(
        "STORAGE_PROVIDER", default="local", about="Where uploaded documents are kept."
    )
    openai_base_urls: tuple[str, ...] = _env(
        "OPENAI_API_BASE_URLS",
        "OPENAI_API_BASE_URL",
        default=(),
        about="Base URLs of OpenAI-compatible endpoints, separated by `;`. `auto`: those of Ollama, LM Studio, vLLM "
        "and llama.cpp that answer on their usual ports of this machine at the start. None: the embedded reader "
        "answers.",
    )
    openai_keys: tuple[SecretStr, ...] = _env(
        "OPENAI_API_KEYS",
        "OPENAI_API_KEY",
        default=(),
        about="Their keys in the same order, separated by `;`. One key serves all; an empty one sends none. "
        "With `auto` none is sent.",
    )
    allow_embedded_reader: bool = _env(
        "DOCV2_ALLOW_EMBEDDED_READER",
        default=True,
        about="Whether to start where no endpoint is configured, and answer with the embedded reader.",
    )
    secret_key: SecretStr = _env(
        "WEBUI_SECRET_KEY",
        default=SecretStr(""),
        about="What the tokens of a sign-in are signed with. Empty: generated once into `session.secret`.",
    )
    metrics_token: SecretStr = _env(
        "DOCV2_METRICS_TOKEN",
        default=SecretStr(""),
        about="Bearer token with which `/metrics` is read from other machines. Empty: from this one alone.",
    )
    enable_api_key: bool = _env("ENABLE_API_KEY", default=True, about="Whether API keys are let in, and may be made.")
    api_key_allowed_endpoints: Annotated[tuple[str, ...], Field(json_schema_extra={"separator": ","})] | None = _env(
        "API_KEY_ALLOWED_ENDPOINTS",
        default=None,
        about="Paths that an API key may call, and all below them, separated by `,`. Not set: every path. Without "
        "`/api/v2/tasks` no key can cancel. Tokens of a sign-in may call all.",
    )
    enabled: bool = _env("API_V2_ENABLED", default=True, about="Whether new documents are accepted.")
    max_file_size: Annotated[int, Field(ge=1)] = _env(
        "API_V2_MAX_FILE_SIZE", default=50 * 1024 * 1024, about="Largest upload in bytes."
    )
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] | None = _env(
        "API_V2_MAX_CONCURRENT",
        default=None,
        about="Tasks worked on at once. Unset: from the memory, 1 below 16 GB to 30.",
    )
    timeout: Seconds = _env(
        "API_V2_TIMEOUT", default=300.0, about="Seconds a task may take since it last finished a page or a part."
    )
    admin_model: str = _env(
        "API_V2_ADMIN_MODEL",
        default="",
        about="Default model. Empty: gpt-4-vision if listed, else the first that can see.",
    )
    max_task_seconds: Seconds = _env(
        "DOCV2_MAX_TASK_SECONDS", default=6 * 3600.0, about="Seconds that a task may run in all."
    )
    admin_config: dict[str, Any] = _env(
        "API_V2_ADMIN_CONFIG",
        default={},
        about="Runtime configuration (second table) as a JSON object. A variable of its own wins over it.",
    )
    limit_by_cores: bool = _env(
        "DOCV2_LIMIT_BY_CORES",
        default=False,
        about="Whether two tasks for each processor core are the most, where the number follows from the memory.",
    )
    drain_seconds: Annotated[float, Field(ge=0)] = _env(
        "DOCV2_DRAIN_SECONDS", default=30.0, about="Seconds that running tasks have to finish after SIGTERM."
    )
    retention_hours: Annotated[float, Field(gt=0)] = _env(
        "DOCV2_RETENTION_HOURS", default=24.0, about="Hours until an ended task is removed."
    )
    enable_model_cache: bool = _env(
        "ENABLE_MODEL_CACHE",
        default=False,
        about="Whether a user who asks the same of the same document again is given the answer from before.",
    )
    model_cache_ttl: Seconds = _env(
        "MODEL_CACHE_TTL", default=3600.0, about="Seconds for which an answer may be given again."
    )
    enable_processing_cache: bool = _env(
        "ENABLE_PROCESSING_CACHE",
        default=False,
        about="Whether a document that a user sends again is not read again.",
    )
    processing_cache_ttl: Seconds = _env(
        "PROCESSING_CACHE_TTL", default=7200.0, about="Seconds for which the pages of a document are kept."
    )
    memory_warning: Percent = _env(
        "DOCV2_MEMORY_WARNING", default=85.0, about="Percent of memory in use at which only half of the pool works."
    )
    memory_hold: Percent = _env(
        "DOCV2_MEMORY_HOLD",
        default=90.0,
        about="Percent of memory in use at which no task starts. Not below `DOCV2_MEMORY_WARNING`.",
    )
    memory_critical: Percent = _env(
        "DOCV2_MEMORY_CRITICAL",
        default=95.0,
        about="Percent of memory in use at which uploads are refused. Not below `DOCV2_MEMORY_HOLD`.",
    )
    parser_memory: Annotated[int, Field(ge=256)] = _env(
        "DOCV2_PARSER_MEMORY_MB", default=2048, about="Address space of one reading child in MiB."
    )

    @field_validator("debug", mode="before")
    @classmethod
    def _lenient(cls, value: object) -> object:
        # Other programs have this name as well, for all kinds of values.
        return value.lower() in ("1", "true", "yes", "on") if isinstance(value, str) else value

    @field_validator("audit_rotation_size", mode="before")
    @classmethod
    def _bytes(cls, value: object) -> object:
        units = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
        if isinstance(value, str) and (unit := units.get(value[-2:].upper())) and value[:-2].strip().isdecimal():
            return int(value[:-2]) * unit
        return value

    @field_validator("log_level", "audit_log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("source_log_levels", mode="before")
    @classmethod
    def _levels(cls, value: object) -> object:
        try:
            levels: Any = json.loads(value) if isinstance(value, str) else value
            return {str(source): str(level).upper() for source, level in levels.items()}
        except (ValueError, AttributeError):
            raise ValueError('must be a JSON object such as {"API_V2": "DEBUG"}') from None

    @field_validator("admin_config", mode="before")
    @classmethod
    def _object(cls, value: object) -> object:
        try:
            read: Any = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            raise ValueError('must be a JSON object such as {"temperature": 0.5}')
        return read

    @field_validator("source_log_levels")
    @classmethod
    def _own_level(cls, levels: dict[str, str]) -> dict[str, str]:
        own = {level for source, level in levels.items() if source.split(".")[0] == OWN_SOURCE}
        if not own <= set(get_args(LogLevel)):
            raise ValueError(f"{OWN_SOURCE} must be {' or '.join(get_args(LogLevel))}")
        return levels

    @field_validator("openai_base_urls", "openai_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(item.strip() for item in value.split(";")) if isinstance(value, str) else value

    @field_validator("api_key_allowed_endpoints", "audit_excluded_paths", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(path.strip() for path in value.split(",") if path.strip())

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ip_network(item.strip()) for item in value.split(";") if item.strip())
        except ValueError:
            raise ValueError("each must be an address or a network, such as 127.0.0.1 or 10.0.0.0/8") from None

    @field_validator("openai_base_urls")
    @classmethod
    def _urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        urls = tuple(url.rstrip("/") for url in urls if url)
        if tuple(url.lower() for url in urls) == (AUTO,):
            return (AUTO,)
        if not all(_is_http(url) for url in urls):
            raise ValueError("each must be a URL that starts with http:// or https://; or all of it: auto")
        return urls

    @field_validator("openai_keys")
    @classmethod
    def _one_key_each(cls, keys: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        urls = info.data.get("openai_base_urls")
        if urls not in (None, (AUTO,)) and len(keys) > 1 and len(keys) != len(urls):
            raise ValueError(f"must be one key, or one for each of the {len(urls)} base URLs")
        return keys

    @field_validator("memory_hold", "memory_critical")
    @classmethod
    def _ascending(cls, value: float, info: ValidationInfo) -> float:
        below = "memory_warning" if info.field_name == "memory_hold" else "memory_hold"
        if value < info.data.get(below, 0.0):
            raise ValueError(f"must not be below {env_names(below)[0]}={info.data[below]:g}")
        return value

    @property
    def looks_for_endpoints(self) -> bool:
        """Whether the start looks for endpoints on this machine. Nothing is looked for unasked."""
        return self.openai_base_urls == (AUTO,)

    @property
    def own_log_level(self) -> str:
        """Least level of docv2's own loggers."""
        return self.source_log_levels.get(OWN_SOURCE, "DEBUG" if self.debug else self.log_level)

    @property
    def area_log_levels(self) -> dict[str, str]:
        """Levels of parts of docv2 by the names of their loggers."""
        parts = {
            source: level for source, level in self.source_log_levels.items() if source.startswith(OWN_SOURCE + ".")
        }
        return {f"docv2{source.removeprefix(OWN_SOURCE).lower()}": level for source, level in parts.items()}

    @property
    def audit_seconds(self) -> float | None:
        """For how long audit records are kept; None for as long as there is room."""
        return None if self.audit_retention_days is None else self.audit_retention_days * 86400

    @property
    def audit_path(self) -> Path:
        """The file of the audit."""
        return self.audit_log_file or self.data_dir / "audit.log"


def env_names(field: str) -> list[str]:
    """The variables that set a field, the one that wins first."""
    extra = Settings.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return [str(name) for name in extra["env"]]  # type: ignore[union-attr]


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment, below it the credentials, below them the environment file.

    StartError names all that is wrong, one line each: the variable, its value unless it is a secret, what is allowed.
    """
    environ = os.environ if environ is None else environ
    known = {name: field for field in Settings.model_fields for name in env_names(field)}
    sources = (
        environ,
        _read_credentials(environ.get(CREDENTIALS, ""), known),
        _read_env_file(environ.get(ENV_FILE, "")),
    )
    wrong = [
        _unknown(name, known)
        for name in sorted({name for source in sources for name in source if name.startswith(OWN_PREFIXES)})
        if name not in known and name not in OF_OTHERS
    ]
    chosen: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, field in known.items():
            if source.get(name, "") != "":
                chosen.setdefault(field, (name, source[name]))
    try:
        settings = Settings.model_validate({field: value for field, (_, value) in chosen.items()})
    except ValidationError as error:
        wrong += [_explain(details, chosen) for details in error.errors()]
    if wrong:
        raise StartError("\n".join(dict.fromkeys(wrong)))
    return settings


def allowed(field: str) -> str:
    """What a field takes, in words."""
    return _allowed(Settings.model_json_schema()["properties"][field])


def default(field: str) -> str:
    """A field's default as one would write it into a variable; empty where there is none."""
    value = Settings.model_fields[field].default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value in (None, {}) else f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return _allowed(schema["anyOf"][0])
    if "const" in schema or "enum" in schema:
        return " or ".join(schema.get("enum", [schema.get("const")]))
    kinds = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": f"values separated by `{schema.get('separator', ';')}`",
        "object": "a JSON object",
        "string": "a path" if schema.get("format") == "path" else "text",
    }
    words = [kinds[schema["type"]]]
    for key, word in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most")):
        if key in schema:
            words.append(f"{word} {schema[key]}")
    return ", ".join(words)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _read_env_file(named: str) -> dict[str, str]:
    path = Path(named or ".env")
    if not path.is_file():
        if named:
            raise StartError(f"{ENV_FILE}={named}: there is no such file")
        return {}
    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: cannot be read: {error}") from None


def _read_credentials(folder: str, known: Container[str]) -> dict[str, str]:
    """Those files that name a variable of ours; others may share the folder."""
    if not folder:
        return {}
    try:
        files = [path for path in Path(folder).iterdir() if path.name in known or path.name.startswith(OWN_PREFIXES)]
        return {path.name: path.read_text(encoding="utf-8").strip() for path in files}
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{CREDENTIALS}={folder}: cannot be read: {error}") from None


def _unknown(name: str, known: Mapping[str, str]) -> str:
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
        return f"{name}: unknown setting; did you mean {near[0]}?"
    return f"{name}: unknown setting; known are {', '.join(n for n in known if n.startswith(OWN_PREFIXES))}"


def _explain(details: ErrorDetails, chosen: Mapping[str, tuple[str, str]]) -> str:
    field = str(details["loc"][0])
    name, value = chosen.get(field, (env_names(field)[0], default(field)))
    # A base URL may carry a password as well.
    shown = "(hidden)" if field.startswith(("openai_", "secret_", "metrics_token")) else repr(value)
    reason = details.get("ctx", {}).get("error")
    return f"{name}={shown}: {reason if isinstance(reason, ValueError) else f'must be {allowed(field)}'}"
