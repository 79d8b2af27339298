"""The part of a configuration that decides its results."""

from typing import Any

from dfgs.config import Config, used_datasets


def used(config: Config) -> dict[str, Any]:
    """Return what the experiments in `run` use, as a complete configuration of its own; the same jobs come from it."""
    values = config.model_dump(mode="json", by_alias=True)
    running = [values["experiments"][name] for name in values["run"]]
    names = {key: {n for e in running for n in e[key]} for key in ("sources", "targets", "samplers", "models")}
    names["experiments"], names["datasets"] = set(values["run"]), used_datasets(config)
    names["backbones"] = {values["models"][name]["backbone"] for name in names["models"]}
    kept = {key: {name: values[key][name] for name in sorted(chosen)} for key, chosen in names.items()}
    return values | kept
