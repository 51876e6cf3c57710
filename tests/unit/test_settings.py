"""Settings: what is read from where, and how a mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docv2 import settings
from docv2.errors import StartError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment file of the working folder gets in the way."""
    monkeypatch.chdir(tmp_path)


def complaint(**environ: str) -> str:
    with pytest.raises(StartError) as caught:
        settings.load(environ)
    return caught.value.message


def test_nothing_set_gives_the_defaults() -> None:
    loaded = settings.load({})
    assert (loaded.host, loaded.port, loaded.max_file_size) == ("127.0.0.1", 3000, 52428800)


def test_the_documented_variables_are_read() -> None:
    loaded = settings.load(
        {
            "API_V2_ENABLED": "false",
            "API_V2_MAX_FILE_SIZE": "1000",
            "API_V2_MAX_CONCURRENT": "6",
            "API_V2_TIMEOUT": "60",
            "API_V2_ADMIN_MODEL": "gpt-4o",
            "OPEN_WEBUI_LOG_LEVEL": "debug",
        }
    )
    assert not loaded.enabled
    assert (loaded.max_file_size, loaded.max_concurrent, loaded.timeout) == (1000, 6, 60)
    assert (loaded.admin_model, loaded.own_log_level) == ("gpt-4o", "DEBUG")


def test_the_level_of_the_source_wins() -> None:
    loaded = settings.load({"OPEN_WEBUI_LOG_LEVEL": "ERROR", "SRC_LOG_LEVELS": '{"API_V2": "debug", "RAG": "TRACE"}'})
    assert loaded.own_log_level == "DEBUG"


def test_several_endpoints_are_separated_by_semicolons() -> None:
    loaded = settings.load({"OPENAI_API_BASE_URLS": "http://a/v1/; https://b:8000/v1", "OPENAI_API_KEYS": "x;"})
    assert loaded.openai_base_urls == ("http://a/v1", "https://b:8000/v1")
    assert [key.get_secret_value() for key in loaded.openai_keys] == ["x", ""]


def test_proxies_are_addresses_and_networks() -> None:
    loaded = settings.load({"DOCV2_TRUSTED_PROXIES": "127.0.0.1; ::1;10.0.0.0/8"})
    assert [str(network) for network in loaded.trusted_proxies] == ["127.0.0.1/32", "::1/128", "10.0.0.0/8"]


def test_a_credential_is_a_file_named_as_its_variable(tmp_path: Path) -> None:
    for name, text in {
        "OPENAI_API_KEYS": "from a file\n",
        "OPENAI_API_BASE_URLS": "http://file/v1",
        "API_V2_ENABLED": "",
        "SOMEBODY_ELSES": "\udcff",
    }.items():
        (tmp_path / name).write_text(text, errors="surrogateescape")
    Path(".env").write_text("OPENAI_API_KEYS=from .env\n")
    loaded = settings.load({"CREDENTIALS_DIRECTORY": str(tmp_path), "OPENAI_API_BASE_URLS": "http://environment/v1"})
    assert [key.get_secret_value() for key in loaded.openai_keys] == ["from a file"], "it wins over .env"
    assert loaded.openai_base_urls == ("http://environment/v1",), "the environment wins over it"
    assert loaded.enabled, "an empty one counts as not set"


def test_a_mistake_in_the_credentials_is_told(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / "DOCV2_PROT").write_text("hunter2")
    assert complaint(**environ) == "DOCV2_PROT: unknown setting; did you mean DOCV2_PORT?"
    (tmp_path / "DOCV2_PROT").unlink()
    (tmp_path / "OPENAI_API_KEYS").write_bytes(b"\xff")
    assert complaint(**environ).startswith(f"CREDENTIALS_DIRECTORY={tmp_path}: cannot be read: ")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")}
    assert "No such file" in complaint(**environ)


def test_the_name_in_the_singular_is_read_too() -> None:
    assert settings.load({"OPENAI_API_BASE_URL": "http://a/v1"}).openai_base_urls == ("http://a/v1",)


def test_an_empty_value_counts_as_not_set() -> None:
    assert settings.load({"DOCV2_PORT": "", "API_V2_MAX_CONCURRENT": ""}).port == 3000


def test_other_variables_are_not_our_business() -> None:
    settings.load({"JWT_EXPIRES_IN": "4w", "DEBUG": "release", "GLOBAL_LOG_LEVEL": "nonsense"})
    settings.load({"DOCV2_URL": "https://docs.example.org", "DOCV2_API_KEY": "sk-the-client-reads-these"})


def test_the_environment_wins_over_the_file_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DOCV2_PORT=1\nAPI_V2_TIMEOUT=7  # seconds\nOPENAI_API_BASE_URLS=http://file\n")
    loaded = settings.load({"DOCV2_PORT": "2", "OPENAI_API_BASE_URL": "http://environment"})
    assert (loaded.port, loaded.timeout, loaded.openai_base_urls) == (2, 7, ("http://environment",))


def test_a_named_file_is_read_instead(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DOCV2_PORT=1\n")
    (tmp_path / "other").write_text("DOCV2_HOST=::1\n")
    loaded = settings.load({"DOCV2_ENV_FILE": str(tmp_path / "other")})
    assert (loaded.host, loaded.port) == ("::1", 3000)


def test_a_named_file_must_be_there_and_be_text(tmp_path: Path) -> None:
    assert "no such file" in complaint(DOCV2_ENV_FILE=str(tmp_path / "missing"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in complaint(DOCV2_ENV_FILE=str(tmp_path / "binary"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DOCV2_PORT", "http", "a whole number, at least 0, at most 65535"),
        ("DOCV2_PORT", "65536", "at most 65535"),
        ("API_V2_ENABLED", "perhaps", "true or false"),
        ("API_V2_MAX_FILE_SIZE", "0", "at least 1"),
        ("API_V2_MAX_CONCURRENT", "many", "a whole number, at least 1, at most 1000"),
        ("API_V2_TIMEOUT", "-1", "above 0"),
        ("API_V2_TIMEOUT", "nan", "a number"),
        ("API_V2_TIMEOUT", "inf", "a number"),
        ("DOCV2_LOG_FORMAT", "xml", "human or json"),
        ("OPEN_WEBUI_LOG_LEVEL", "LOUD", "DEBUG or INFO or WARNING or ERROR"),
        ("SRC_LOG_LEVELS", "DEBUG", "a JSON object such as"),
        ("SRC_LOG_LEVELS", "[1]", "a JSON object such as"),
        ("SRC_LOG_LEVELS", '{"API_V2": "LOUD"}', "API_V2 must be DEBUG or"),
        ("STORAGE_PROVIDER", "s3", "local"),
        ("DOCV2_TRUSTED_PROXIES", "127.0.0.1,::1", "an address or a network"),
        ("DOCV2_TRUSTED_PROXIES", "10.0.0.1/8", "an address or a network"),
        ("DOCV2_MEMORY_WARNING", "91", "must not be below DOCV2_MEMORY_WARNING=91"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(name: str, value: str, told: str) -> None:
    message = complaint(**{name: value})
    assert "\n" not in message
    assert told in message
    if name != "DOCV2_MEMORY_WARNING":  # told of the default that it contradicts
        assert message.startswith(f"{name}={value!r}: ")


def test_every_mistake_gets_its_line() -> None:
    lines = complaint(DOCV2_PROT="1", DOCV2_PORT="x", API_V2_ENABLED="x").splitlines()
    assert sorted(re.split("[=:]", line)[0] for line in lines) == ["API_V2_ENABLED", "DOCV2_PORT", "DOCV2_PROT"]


def test_a_misspelt_name_is_told_with_the_right_one() -> None:
    assert complaint(DOCV2_PROT="1") == "DOCV2_PROT: unknown setting; did you mean DOCV2_PORT?"
    assert "known are" in complaint(API_V2_X="1")


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_API_BASE_URLS": "ftp://user:hunter2@host"},
        {"OPENAI_API_BASE_URLS": "http://user:hunter2@[host"},
        {"OPENAI_API_BASE_URLS": "http://a;http://b;http://c", "OPENAI_API_KEYS": "hunter2;hunter2"},
    ],
)
def test_no_secret_is_shown(environ: dict[str, str]) -> None:
    assert "hunter2" not in complaint(**environ)


def test_the_settings_do_not_show_keys_when_printed() -> None:
    assert "hunter2" not in repr(settings.load({"OPENAI_API_KEYS": "hunter2"}))
