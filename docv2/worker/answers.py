"""When the answer to one task is also the answer to another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress

import docv2
from docv2.config import Config
from docv2.errors import ModelError, UpstreamUnavailable
from docv2.llm.catalog import Catalog, May, Model
from docv2.tasks import Task


def first_in_line(catalog: Catalog, model_id: str, may: May) -> list[Model]:
    """The models that a task goes to, without pictures and with them; none where nobody knows yet, or any more."""
    models: list[Model] = []
    with suppress(ModelError, UpstreamUnavailable):
        models.append(catalog.candidates(model_id, may, needs_vision=False)[0].model)
        models.append(catalog.candidates(model_id, may, needs_vision=True)[0].model)
    return models


def question_key(task: Task, config: Config, models: Sequence[Model]) -> str:
    """The same for tasks whose answers follow from the same; "" where nobody knows which model would answer.

    In it is everything that a model is given and all that decides which one it is: the user, the document, the prompt
    as it is put to the model (`task.prompt`), the parameters, what may be sent of pages, the models with what they can
    do, and the version of docv2, whose readers and own words may be others in the next.
    """
    if not models:
        return ""
    follows_from = [
        docv2.__version__,
        task.user_id,
        task.sha256,
        task.media_type,
        task.detail,
        task.prompt,
        task.temperature,
        task.max_tokens,
        task.response_format,
        config.enable_vision,
        config.enable_multimodal,
        # But for how many bytes make a token, which is measured anew at every call and only decides where to split.
        [[model.id, model.endpoint, model.vision, model.context, model.pictures_per_call] for model in models],
    ]
    return hashlib.sha256(json.dumps(follows_from, sort_keys=True).encode()).hexdigest()
