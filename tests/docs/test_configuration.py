"""The reference of the settings and the example file say what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from dotenv import dotenv_values

from docv2 import settings

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs/configuration.py"


def test_the_written_files_are_current() -> None:
    for path, text in runpy.run_path(str(SCRIPT))["FILES"].items():
        assert path.read_text(encoding="utf-8") == text(), f"run: python {SCRIPT.relative_to(ROOT)}"


def test_every_setting_has_a_meaning_and_a_name_of_ours_or_of_open_webui() -> None:
    for field, info in settings.Settings.model_fields.items():
        assert info.description
        assert all(name.isupper() for name in settings.env_names(field))


def test_the_example_file_uncommented_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    Path(".env").write_text(
        "\n".join(line.removeprefix("#") for line in lines if line.startswith("#") and line[1:2] != " ")
    )
    assert set(dotenv_values(".env")) == {settings.env_names(field)[0] for field in settings.Settings.model_fields}
    assert settings.load({}) == settings.Settings()
