"""The routes that answer administrators alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from docv2 import removal
from docv2.errors import Conflict, FileTooLarge, InvalidValue, NotFound
from docv2.views import TaskList, TaskSummary
from docv2.web import audit, configuration, models, operation, people
from docv2.web.route import Route

_JSON = (InvalidValue, FileTooLarge)
"""What any route with a body of JSON refuses."""

_ROUTES = (
    Route("GET", "/admin/config", configuration.show_configuration, answers=configuration.ConfigurationBody),
    Route(
        "POST",
        "/admin/config",
        configuration.change_configuration,
        answers=configuration.ConfigurationBody,
        json=configuration.Change,
        refuses=(*_JSON, Conflict),
    ),
    Route(
        "GET",
        "/admin/config/versions",
        configuration.list_versions,
        answers=configuration.VersionsBody,
        query=configuration.Versions,
        refuses=(InvalidValue,),
    ),
    Route(
        "POST",
        "/admin/config/revert",
        configuration.revert_configuration,
        answers=configuration.ConfigurationBody,
        json=configuration.Revert,
        refuses=(*_JSON, NotFound, Conflict),
    ),
    Route("GET", "/admin/config/schema", configuration.describe_settings, answers=dict[str, Any]),
    Route("GET", "/api/v1/configs", configuration.copy_configuration, answers=configuration.CopyBody),
    Route(
        "POST",
        "/api/v1/configs/import",
        configuration.import_configuration,
        answers=configuration.ConfigurationBody,
        json=configuration.Import,
        refuses=(*_JSON, Conflict),
    ),
    Route("GET", "/admin/models", models.list_models, answers=models.KnownModels),
    Route(
        "POST",
        "/admin/models",
        models.set_model,
        answers=models.KnownModel,
        json=models.ModelEntry,
        creates=True,
        refuses=(*_JSON, Conflict),
    ),
    Route(
        "DELETE",
        "/admin/models/{model_id}",
        models.remove_model,
        answers=models.RemovedEntry,
        refuses=(NotFound, Conflict),
    ),
    Route("GET", "/admin/users", people.list_users, answers=people.UsersBody),
    Route(
        "POST",
        "/admin/users",
        people.create_user,
        answers=people.UserBody,
        json=people.NewUser,
        gives={"user_id": "/id"},
        refuses=(*_JSON, Conflict),
    ),
    Route(
        "POST",
        "/admin/users/{user_id}/disable",
        people.disable_user,
        answers=people.UserBody,
        refuses=(NotFound, Conflict),
    ),
    Route("POST", "/admin/users/{user_id}/enable", people.enable_user, answers=people.UserBody, refuses=(NotFound,)),
    Route(
        "POST",
        "/admin/users/{user_id}/password",
        people.reset_password,
        answers=people.PasswordBody,
        json=people.NewPassword,
        refuses=(*_JSON, NotFound),
    ),
    Route("DELETE", "/admin/users/{user_id}", people.remove_user, answers=removal.Purged, refuses=(NotFound, Conflict)),
    Route("DELETE", "/admin/users/{user_id}/data", people.purge_user, answers=removal.Purged, refuses=(NotFound,)),
    Route("GET", "/admin/users/{user_id}/keys", people.list_user_keys, answers=people.KeysBody, refuses=(NotFound,)),
    Route(
        "POST",
        "/admin/users/{user_id}/keys",
        people.create_user_key,
        answers=people.MadeKeyBody,
        gives={"key_id": "/key/id"},
        json=people.KeyWanted,
        refuses=(*_JSON, NotFound),
    ),
    Route(
        "DELETE",
        "/admin/users/{user_id}/keys/{key_id}",
        people.revoke_user_key,
        answers=people.KeyBody,
        refuses=(NotFound, Conflict),
    ),
    Route(
        "POST",
        "/admin/users/{user_id}/keys/{key_id}/rotate",
        people.rotate_user_key,
        answers=people.MadeKeyBody,
        gives={"key_id": "/key/id"},
        refuses=(NotFound, Conflict),
    ),
    Route(
        "GET",
        "/admin/tasks",
        operation.list_all_tasks,
        answers=TaskList,
        query=operation.AllTasks,
        refuses=(InvalidValue,),
    ),
    Route(
        "POST", "/admin/tasks/{task_id}/retry", operation.retry_task, answers=TaskSummary, refuses=(NotFound, Conflict)
    ),
    Route("GET", "/admin/queue", operation.show_queue, answers=operation.QueueBody),
    Route("POST", "/admin/queue/pause", operation.pause_queue, answers=operation.QueueBody, refuses=(Conflict,)),
    Route("POST", "/admin/queue/resume", operation.resume_queue, answers=operation.QueueBody, refuses=(Conflict,)),
    Route("DELETE", "/admin/caches", operation.clear_caches, answers=removal.Cleared),
    Route("GET", "/admin/status", operation.show_server, answers=operation.StatusBody),
    Route(
        "GET",
        "/admin/audit",
        audit.search_audit,
        answers=audit.AuditRecords,
        query=audit.AuditSearch,
        refuses=(InvalidValue,),
    ),
)

ROUTES = tuple(replace(route, admin=True) for route in _ROUTES)
