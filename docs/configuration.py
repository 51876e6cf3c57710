"""Writes `docs/configuration.md` and `.env.example` from `docv2/settings.py`: `python docs/configuration.py`."""

from __future__ import annotations

from pathlib import Path

from docv2 import settings
from docv2.config import described

ROOT = Path(__file__).parent.parent

HEAD = f"""\
# Configuration

<!-- Written by docs/configuration.py from docv2/settings.py; change it there. -->

docv2 reads these variables from the environment and, below it, from a file of `NAME=value` lines: the one that
`{settings.ENV_FILE}` names, else `.env` in the working folder. An empty value counts as not set. A value that is not
allowed, or an unknown name that begins with `DOCV2_` or `API_V2_`, stops the start with one line each on stderr and
exit status 2; any other variable is ignored, so the environment file of Open WebUI loads as it is.

Any of them may be a file instead, as secrets should: where `{settings.CREDENTIALS}` names a folder (systemd does so for
`LoadCredential=`), a file in it that is named as a variable holds its value. The environment wins over it.

| Variable | Default | Takes | What it does |
|---|---|---|---|
"""

EXAMPLE_HEAD = """\
# Copy to .env and take the # off the lines that you change. Written by docs/configuration.py from docv2/settings.py.
"""


RUNTIME_HEAD = """
## Runtime configuration

<!-- From docv2/config.py. -->

An administrator changes these while docv2 runs (`POST /admin/config`, see docs/administration.md). They may stand in
`API_V2_ADMIN_CONFIG` as well, under the same names. What is set at run time wins over the environment, and that over
the default. `<…>` stands for an e-mail address or the id of a model.

| Setting | Default | What it does |
|---|---|---|
"""


def runtime() -> str:
    """The settings that change while docv2 runs."""
    return RUNTIME_HEAD + "".join(
        f"| `{path}` | {'from the memory' if path == 'max_concurrent' else f'`{default}`'} | {about} |\n"
        for path, default, about in described()
    )


def markdown() -> str:
    """The reference page."""
    rows = []
    for field, info in settings.Settings.model_fields.items():
        names = ", ".join(f"`{name}`" for name in settings.env_names(field))
        default = f"`{settings.default(field)}`" if settings.default(field) else "not set"
        rows.append(f"| {names} | {default} | {settings.allowed(field)} | {info.description} |\n")
    return HEAD + "".join(rows) + runtime()


def example() -> str:
    """The environment file with every setting, each commented out at its default."""
    entries = [
        f"\n# {info.description}\n# Takes {settings.allowed(field)}.\n"
        f"#{settings.env_names(field)[0]}={settings.default(field)}\n"
        for field, info in settings.Settings.model_fields.items()
    ]
    return EXAMPLE_HEAD + "".join(entries)


FILES = {ROOT / "docs/configuration.md": markdown, ROOT / ".env.example": example}

if __name__ == "__main__":
    for path, text in FILES.items():
        path.write_text(text(), encoding="utf-8")
