"""Models that are told by what they change: `base` names another model, whose settings hold where none are given."""

from typing import Any

from dfgs.errors import DfgsError, did_you_mean


def write_out(models: dict[str, Any]) -> dict[str, Any]:
    """Write out models that name another one as `base`: its settings, replaced map by map by their own.

    >>> write_out({"a": {"batch": {"size": 64, "instances": 4}}, "b": {"base": "a", "batch": {"instances": 2}}})["b"]
    {'batch': {'size': 64, 'instances': 2}}

    Raises `DfgsError` for a base that is not defined and for bases in a circle.
    """
    return {name: _written_out(name, models, ()) for name in models}


def _written_out(name: str, models: dict[str, Any], seen: tuple[str, ...]) -> Any:
    model = models[name]
    if not isinstance(model, dict) or "base" not in model:
        return model
    base = model["base"]
    if base not in models:
        raise DfgsError(f"config: models.{name}.base: no model is called {base!r}{did_you_mean(str(base), models)}")
    if base in (*seen, name):
        raise DfgsError(f"config: models.{base}.base: {' → '.join((*seen, name, base))} is a circle")
    own = {key: value for key, value in model.items() if key != "base"}
    return lay_over(_written_out(base, models, (*seen, name)), own)


def lay_over(below: Any, above: Any) -> Any:
    """Lay a map over another one, map by map; anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: lay_over(below[key], value) if key in below else value for key, value in above.items()}
