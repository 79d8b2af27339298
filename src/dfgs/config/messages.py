"""A wrong configuration in one line."""

from typing import Any

from pydantic import BaseModel, ValidationError

from dfgs.errors import did_you_mean


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Name one fault in one line; a missing key often follows from a mistyped one, so the latter is named first."""
    first = min(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if part != "[key]"]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"config: unknown key {where!r}{did_you_mean(path[-1], _siblings(model, path[:-1]))}"
    reason = first["msg"].removeprefix("Value error, ")
    value = "" if first["type"] == "missing" else f" is {_short(first['input'])}"
    return f"config: {where or 'top level'}{value}: {reason}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _siblings(model: Any, path: list[str]) -> list[str]:
    """Known keys of the settings class that a path of the configuration leads to."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        elif hasattr(model, "__args__"):
            model = model.__args__[-1]
        choices = [
            arg for arg in getattr(model, "__args__", ()) if isinstance(arg, type) and issubclass(arg, BaseModel)
        ]
        if choices and getattr(model, "__origin__", None) is not dict:
            model = choices[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
