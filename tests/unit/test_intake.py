"""What is made of a file's name and of the fields of a form, whatever they are."""

from __future__ import annotations

import unicodedata
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from docv2.errors import BadRequest, InvalidValue
from docv2.intake import FIELD_BYTES, MAX_FILENAME, display_name, read_question

NAMES = st.text(max_size=600) | st.text("./\\\0\n\u202e a💥", max_size=40)


@given(NAMES)
def test_a_name_for_display_is_one_harmless_component(sent: str) -> None:
    shown = display_name(sent)
    assert 0 < len(shown) <= MAX_FILENAME
    assert not set(shown) & set("/\\\u202e\u2066")
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    shown.encode()


@given(NAMES)
def test_showing_a_shown_name_changes_nothing(sent: str) -> None:
    assert display_name(display_name(sent)) == display_name(sent)


@given(st.text(min_size=1, max_size=600), st.sampled_from(["pdf", "docx", "jpeg", "md"]))
def test_the_extension_survives_since_it_is_checked(stem: str, extension: str) -> None:
    assert display_name(f"{stem}.{extension}").endswith(extension)


@given(
    st.dictionaries(st.sampled_from(list(FIELD_BYTES)), st.text(max_size=40) | st.from_regex(r"-?\d{0,5}\.?\d{0,5}"))
)
def test_fields_are_read_or_refused_by_name(fields: dict[str, str]) -> None:
    with suppress(BadRequest, InvalidValue):
        question = read_question({"prompt": "What is it?", **fields})
        assert 5 <= len(question.prompt) <= 4000
        assert question.temperature is None or 0 <= question.temperature <= 2
        assert question.max_tokens is None or question.max_tokens >= 1
