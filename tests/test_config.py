"""The configuration: every mistake is one line that says what, where, the value and what would be right."""

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from dfgs.config import Config, Settings, used_datasets
from dfgs.errors import DfgsError

CONFIGS = Path(__file__).parents[1] / "config"
SHIPPED = sorted(path.name for path in CONFIGS.glob("*.yaml"))
DEPTHS = {
    "experiments.main": "samplers",
    "targets.a": "splits",
    "datasets.drawn-a": "layout",
    "datasets.drawn-a.draw": "cameras",
    "backbones.small": "pretrained",
    "backbones.small.pretrain": "steps",
    "models.tiny": "prompts",
    "models.tiny.input": "normalise",
    "models.tiny.input.augment": "augmix",
    "models.tiny.batch": "instances",
    "models.tiny.prior": "epochs",
    "models.tiny.prompts": "context",
    "models.tiny.finetune": "milestones",
    "models.tiny.test": "distance",
}


def at(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The map that a dotted path leads to."""
    for part in path.split("."):
        values = values[part]
    return values


def set_at(values: dict[str, Any], path: str, value: Any) -> None:
    """Replace the value that a dotted path leads to."""
    folder, _, key = path.rpartition(".")
    (at(values, folder) if folder else values)[key] = value


def refusal(values: dict[str, Any]) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(DfgsError) as caught:
        Config.parse(values)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("config: ")
    return message


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as Snakemake's `--configfile` does: maps merge, all else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def settings_classes() -> Iterator[type[BaseModel]]:
    """Every settings class that the configuration reaches."""
    seen: set[type[BaseModel]] = set()
    todo: list[Any] = [Config]
    while todo:
        kind = todo.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in seen:
                seen.add(kind)
                yield kind
                todo += [field.annotation for field in kind.model_fields.values()]
        else:
            todo += get_args(kind)


def test_the_tests_own_configuration_is_valid_and_frozen(values: dict[str, Any]) -> None:
    config = Config.parse(values)
    assert config.run == ("main",)
    with pytest.raises(ValueError, match="frozen"):
        config.run = ()  # type: ignore[misc]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_parses_over_the_default(name: str, tmp_path: Path) -> None:
    default = yaml.safe_load((CONFIGS / "config.yaml").read_text(encoding="utf-8"))
    values = merged(default, yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8")))
    for dataset in values["datasets"].values():
        if dataset.get("draw") is None:
            (tmp_path / dataset["root"]).mkdir()
    assert Config.parse(values | {"data": str(tmp_path)}).run


def test_the_readme_of_the_configuration_names_every_key() -> None:
    text = (CONFIGS / "README.md").read_text(encoding="utf-8")
    keys = sorted({field.alias or key for kind in settings_classes() for key, field in kind.model_fields.items()})
    assert len(keys) > 60
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_every_settings_class_refuses_unknown_keys() -> None:
    classes = list(settings_classes())
    assert len(classes) > 12
    assert all(issubclass(kind, Settings) and kind.model_config["extra"] == "forbid" for kind in classes)


@pytest.mark.parametrize(("path", "key"), DEPTHS.items())
def test_a_mistyped_key_is_named_with_its_path_and_the_key_that_was_meant(
    values: dict[str, Any], path: str, key: str
) -> None:
    settings = at(values, path)
    settings[key + "z"] = settings.pop(key)
    assert refusal(values) == f"config: unknown key '{path}.{key}z' (did you mean {key!r}?)"


def test_a_mistyped_key_at_the_top_is_named(values: dict[str, Any]) -> None:
    values["model"] = values.pop("models")
    assert refusal(values) == "config: unknown key 'model' (did you mean 'models'?)"


def test_a_missing_key_is_named_with_its_path(values: dict[str, Any]) -> None:
    del values["models"]["tiny"]["finetune"]["epochs"]
    assert refusal(values) == "config: models.tiny.finetune.epochs: Field required"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("datasets.drawn-a.draw.gap", 1.5, "datasets.drawn-a.draw.gap is 1.5: .*less than or equal to 1"),
        ("datasets.drawn-a.draw.cameras", 1, "datasets.drawn-a.draw.cameras is 1: .*greater than or equal to 2"),
        ("models.tiny.finetune.epochs", 0, "models.tiny.finetune.epochs is 0: .*greater than 0"),
        ("models.tiny.finetune.losses", {}, "models.tiny.finetune.losses is {}: .*at least 1"),
        ("models.tiny.input.normalise", "imagenet", "models.tiny.input.normalise is 'imagenet': .*'clip', 'half'"),
        ("models.tiny.test.distance", "manhattan", "models.tiny.test.distance is 'manhattan': .*'euclidean'"),
        ("models.tiny.test.features", ["poled"], "models.tiny.test.features.0 is 'poled': .*'pooled'"),
        ("backbones.small.last_stride", 3, "backbones.small.last_stride is 3: .*1 or 2"),
        ("experiments.main.seeds", [-1], "experiments.main.seeds.0 is -1: .*greater than or equal to 0"),
        ("experiments.main.seeds", [], r"experiments.main.seeds is \[\]: .*at least 1"),
        ("run", [], r"run is \[\]: .*at least 1"),
        ("sources.a", [], r"sources.a.datasets is \[\]: .*at least 1"),
        ("sources.a", {"datasets": ["drawn-a"], "view": "all"}, "sources.a.view is 'all': .*'train' or 'combined'"),
        ("sources.a", "drawn-a", "sources.a is 'drawn-a': .*dictionary"),
        ("samplers.pk", None, "samplers.pk is None: .*dictionary"),
        ("datasets", None, "datasets is None: .*dictionary"),
    ],
)
def test_a_value_out_of_range_is_shown_with_what_would_be_right(
    values: dict[str, Any], path: str, value: Any, expected: str
) -> None:
    set_at(values, path, value)
    assert re.match(f"config: {expected}", refusal(values))


def test_a_long_wrong_value_is_cut(values: dict[str, Any]) -> None:
    values["models"]["tiny"]["batch"] = "x" * 5000
    assert len(refusal(values)) < 250


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("run", ["mian"], "run: no experiment is called 'mian' (did you mean 'main'?)"),
        ("sources.a", ["drwan-a"], "sources.a: no dataset is called 'drwan-a' (did you mean 'drawn-a'?)"),
        (
            "targets.a.dataset",
            "drawn-aa",
            "targets.a.dataset: no dataset is called 'drawn-aa' (did you mean 'drawn-a'?)",
        ),
        (
            "targets.a.protocol",
            "market",
            "targets.a.protocol: no protocol is called 'market' (did you mean 'market1501'?)",
        ),
        ("models.tiny.backbone", "smal", "models.tiny.backbone: no backbone is called 'smal' (did you mean 'small'?)"),
        (
            "experiments.main.sources",
            ["abb"],
            "experiments.main.sources: no source is called 'abb' (did you mean 'ab'?)",
        ),
        ("experiments.main.targets", ["z"], "experiments.main.targets: no target is called 'z' (known: a, b, c)"),
        (
            "experiments.main.models",
            ["tinny"],
            "experiments.main.models: no model is called 'tinny' (did you mean 'tiny'?)",
        ),
        (
            "experiments.main.samplers",
            ["dfgs"],
            "experiments.main.samplers: no sampler is called 'dfgs' (did you mean 'dfgs-k3'?)",
        ),
        (
            "experiments.main.metrics",
            ["mAPs"],
            "experiments.main.metrics: no metric is called 'mAPs' (did you mean 'mAP'?)",
        ),
        (
            "experiments.main.figures",
            ["comparisons"],
            "experiments.main.figures: no figure is called 'comparisons' (did you mean 'comparison'?)",
        ),
        (
            "datasets.drawn-a.layout",
            "market",
            "datasets.drawn-a.layout: no dataset layout is called 'market' (did you mean 'market1501'?)",
        ),
        (
            "samplers.dfgs-k3.class",
            "dgfs",
            "samplers.dfgs-k3.class: no sampler is called 'dgfs' (did you mean 'dfgs'?)",
        ),
        (
            "models.tiny.finetune.losses",
            {"triplets": {}},
            "models.tiny.finetune.losses: no loss is called 'triplets' (did you mean 'triplet'?)",
        ),
        (
            "models.tiny.prior.losses",
            {"tripelt": {}},
            "models.tiny.prior.losses: no loss is called 'tripelt' (did you mean 'triplet'?)",
        ),
    ],
)
def test_a_name_that_is_not_defined_is_refused_with_the_nearest_known_one(
    values: dict[str, Any], path: str, value: Any, expected: str
) -> None:
    set_at(values, path, value)
    assert refusal(values) == f"config: {expected}"


def test_a_sampler_without_class_is_the_class_of_its_own_name(values: dict[str, Any]) -> None:
    values["samplers"]["pkk"] = {}
    assert refusal(values) == "config: samplers.pkk.class: no sampler is called 'pkk' (did you mean 'pk'?)"


def test_the_name_of_the_untuned_backbone_is_kept_for_it(values: dict[str, Any]) -> None:
    values["samplers"]["zero-shot"] = {"class": "pk"}
    assert refusal(values).startswith("config: samplers.zero-shot: the name is kept for the untuned backbone")


def test_a_batch_that_is_no_whole_number_of_identities_is_refused_with_both_numbers(values: dict[str, Any]) -> None:
    values["models"]["tiny"]["batch"] = {"size": 30, "instances": 4}
    message = refusal(values)
    assert message.startswith("config: models.tiny.batch is ")
    assert message.endswith("batch size 30 is not a multiple of instances (K) 4")


@pytest.mark.parametrize("name", ["PK", "pk_camera", "pk--camera", "-pk", "pk-", "p k", "", "pk/x", "x" * 61])
@pytest.mark.parametrize(
    "section", ["experiments", "sources", "targets", "datasets", "samplers", "models", "backbones"]
)
def test_a_name_that_makes_no_tidy_path_is_refused(values: dict[str, Any], section: str, name: str) -> None:
    values[section][name] = next(iter(values[section].values()))
    message = refusal(values)
    assert message.startswith(f"config: {section}.{name} is {name!r}: a name is made of a-z, 0-9 and single hyphens")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("run", ["main", "main"]),
        ("sources.a", ["drawn-a", "drawn-a"]),
        ("targets.a.splits", ["test", "test"]),
        ("experiments.main.sources", ["a", "a"]),
        ("experiments.main.targets", ["a", "b", "a"]),
        ("experiments.main.models", ["tiny", "tiny"]),
        ("experiments.main.samplers", ["pk", "random", "pk"]),
        ("experiments.main.seeds", [0, 1, 0]),
        ("experiments.main.metrics", ["mAP", "mAP"]),
        ("experiments.main.figures", ["comparison", "comparison"]),
    ],
)
def test_an_entry_that_is_listed_twice_is_named(values: dict[str, Any], path: str, value: list[Any]) -> None:
    set_at(values, path, value)
    assert refusal(values) == f"config: {path} lists {value[0]!r} 2 times; list it once"


HINT = ", or in data the folder that it lies in"


def test_a_dataset_in_use_needs_a_folder_that_exists(values: dict[str, Any], tmp_path: Path) -> None:
    values["sources"]["a"] = ["real"]
    assert refusal(values) == "config: datasets.real.root is not set; give the folder or pack of the dataset"
    missing, file, archive = tmp_path / "missing", tmp_path / "file", tmp_path / "market.zip"
    file.touch()
    archive.write_bytes(b"PK\x03\x04" + bytes(40))
    for wrong, expected in (
        (missing, f"{missing} is not a folder; give the folder or pack of the dataset{HINT}"),
        (file, f"{file} is a file; give the folder of the dataset, or a pack that `dfgs pack` wrote"),
        (archive, f"{archive} is a zip archive, which is never unpacked here; unpack it yourself and give the folder"),
    ):
        values["datasets"]["real"]["root"] = str(wrong)
        assert refusal(values) == f"config: datasets.real.root: {expected}"
        assert refusal(values | {"data": str(tmp_path)}) == f"config: datasets.real.root: {expected}".replace(HINT, "")
    values["datasets"]["real"]["root"] = str(tmp_path)
    assert Config.parse(values)


def test_a_folder_that_is_not_absolute_lies_in_data(values: dict[str, Any], tmp_path: Path) -> None:
    values["sources"]["a"], values["datasets"]["real"]["root"] = ["real"], "Market"
    values["data"] = str(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    assert refusal(values).startswith(f"config: datasets.real.root: {tmp_path}/Market is not a folder")
    (tmp_path / "Market").mkdir()
    assert Config.parse(values).root("real") == f"{tmp_path}/Market"
    values["datasets"]["real"]["root"] = str(tmp_path / "elsewhere")
    assert Config.parse(values).root("real") == f"{tmp_path}/elsewhere"
    assert Config.parse(values).root("drawn-a") == "results/worlds/drawn-a"


def test_options_and_splits_are_checked_before_any_job(values: dict[str, Any]) -> None:
    values["datasets"]["drawn-a"]["options"] = {"valdation": 3}
    with pytest.raises(DfgsError, match=r"dataset 'drawn-a': layout market1501 refuses its options \{'valdation': 3\}"):
        Config.parse(values)
    values["datasets"]["drawn-a"]["options"] = {}
    values["targets"]["b"]["splits"] = ["half-0", "half-10"]
    assert refusal(values) == "config: targets.b.splits: no split is called 'half-10' (did you mean 'half-1'?)"


def test_a_target_without_a_test_part_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    values["datasets"]["drawn-b"] = {"layout": "cuhk-sysu", "root": str(tmp_path)}
    assert refusal(values) == "config: targets.b: dataset 'drawn-b' is for training only, it has no splits"


def test_a_withdrawn_dataset_is_refused_before_any_job(values: dict[str, Any], tmp_path: Path) -> None:
    values["datasets"]["drawn-b"] = {"layout": "dukemtmc-reid", "root": str(tmp_path)}
    with pytest.raises(DfgsError, match="dataset 'drawn-b': DukeMTMC-reID was withdrawn"):
        Config.parse(values)


def test_a_source_with_all_images_needs_a_target_that_it_did_not_see(values: dict[str, Any]) -> None:
    values["sources"]["ab"] = {"datasets": ["drawn-a", "drawn-b"], "view": "combined"}
    assert refusal(values) == (
        "config: experiments.main: source 'ab' trains on all images of every target (a, b); add a target of another "
        "dataset, or set view to train"
    )
    values["experiments"]["main"]["targets"] = ["a", "b", "c"]
    assert Config.parse(values)


def test_the_same_folder_under_another_name_is_seen_through(values: dict[str, Any], tmp_path: Path) -> None:
    values["datasets"] |= {name: {"layout": "market1501", "root": str(tmp_path)} for name in ("real", "again")}
    values["sources"]["a"] = {"datasets": ["real"], "view": "combined"}
    values["targets"]["a"]["dataset"] = "again"
    config = Config.parse(values)
    assert config.leaks("a", "a")
    assert not config.leaks("a", "b")
    assert not config.leaks("ab", "a")
    values["sources"]["a"]["view"] = "train"
    assert not Config.parse(values).leaks("a", "a")


def test_a_model_may_name_what_it_changes_in_another_one(values: dict[str, Any]) -> None:
    values["models"]["wide"] = {"base": "tiny", "batch": {"instances": 4}, "prior": None}
    values["models"]["wider"] = {"base": "wide", "finetune": {"losses": {"triplet": {"weight": 0}}}}
    models = Config.parse(values).models
    assert models["wide"] == models["tiny"].model_copy(
        update={"batch": models["tiny"].batch.model_copy(update={"instances": 4}), "prior": None}
    )
    assert models["wider"].batch == models["wide"].batch
    losses = values["models"]["tiny"]["finetune"]["losses"]
    assert models["wider"].finetune.losses == losses | {"triplet": losses["triplet"] | {"weight": 0}}


def test_bases_that_are_missing_or_in_a_circle_are_refused(values: dict[str, Any]) -> None:
    values["models"]["wide"] = {"base": "tinny"}
    assert refusal(values) == "config: models.wide.base: no model is called 'tinny' (did you mean 'tiny'?)"
    values["models"] |= {"wide": {"base": "wider"}, "wider": {"base": "wide"}}
    assert refusal(values) == "config: models.wide.base: wide → wider → wide is a circle"


def test_a_mistyped_key_of_a_model_with_a_base_is_named(values: dict[str, Any]) -> None:
    values["models"]["wide"] = {"base": "tiny", "batch": {"sizes": 4}}
    assert refusal(values) == "config: unknown key 'models.wide.batch.sizes' (did you mean 'size'?)"


def test_a_dataset_that_is_defined_and_not_used_needs_no_folder(values: dict[str, Any]) -> None:
    values["sources"]["real"] = ["real"]
    values["experiments"]["later"] = values["experiments"]["main"] | {"sources": ["real"]}
    config = Config.parse(values)
    assert used_datasets(config) == {"drawn-a", "drawn-b"}


def test_a_target_alone_makes_its_dataset_used(values: dict[str, Any]) -> None:
    values["experiments"]["main"]["targets"] = ["c"]
    assert used_datasets(Config.parse(values)) == {"drawn-a", "drawn-b", "drawn-c"}


def test_a_folder_and_a_drawing_recipe_exclude_each_other(values: dict[str, Any], tmp_path: Path) -> None:
    values["datasets"]["drawn-a"]["root"] = str(tmp_path)
    assert refusal(values).endswith("give root (a folder or pack) or draw (a recipe), not both")


@pytest.mark.parametrize("pretrained", [None, "openai"])
def test_a_recipe_for_weights_that_are_not_drawn_is_refused(values: dict[str, Any], pretrained: str | None) -> None:
    values["backbones"]["small"]["pretrained"] = pretrained
    assert refusal(values).endswith("pretrained: drawn and a pretrain: recipe belong together")


def test_drawn_weights_without_a_recipe_are_refused(values: dict[str, Any]) -> None:
    values["backbones"]["small"]["pretrain"] = None
    assert refusal(values).endswith("pretrained: drawn and a pretrain: recipe belong together")


def test_rates_in_the_short_form_that_yaml_reads_as_text_are_numbers(values: dict[str, Any]) -> None:
    values["models"]["tiny"]["finetune"]["learning_rate"] = yaml.safe_load("5e-6")
    assert Config.parse(values).models["tiny"].finetune.learning_rate == 5e-6


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"class": "dfgs", "features": "bnak"}, "no features are called 'bnak' (did you mean 'bank'?)"),
        ({"class": "gs", "features": None}, "no features are called 'None' (known: bank, fresh)"),
        (
            {"class": "pk", "features": "bank"},
            "is 'bank': the sampler has no graph of image features; leave the key out",
        ),
        (
            {"class": "dfgs", "graph": "text", "features": "fresh"},
            "is 'fresh': the sampler has no graph of image features; leave the key out",
        ),
    ],
)
def test_features_are_chosen_by_name_and_by_samplers_with_an_image_graph_only(
    values: dict[str, Any], setting: dict[str, Any], expected: str
) -> None:
    values["samplers"]["mine"] = setting
    assert re.sub(r"^config: samplers\.mine\.features:? ", "", refusal(values)) == expected


@pytest.mark.parametrize("features", ["fresh", "bank"])
@pytest.mark.parametrize(
    "setting", [{"class": "gs"}, {"class": "dfgs"}, {"class": "dfgs", "graph": "both"}, {"class": "dfgs-permuted"}]
)
def test_every_sampler_with_an_image_graph_takes_both_kinds_of_features(
    values: dict[str, Any], setting: dict[str, Any], features: str
) -> None:
    values["samplers"]["mine"] = setting | {"features": features}
    assert Config.parse(values).samplers["mine"]["features"] == features


def test_the_audit_is_on_unless_switched_off_and_its_figure_goes_with_it(values: dict[str, Any]) -> None:
    assert Config.parse(values).audit
    values["audit"] = False
    assert not Config.parse(values).audit
    values["experiments"]["main"]["figures"] = ["comparison", "audit"]
    assert refusal(values) == "config: experiments.main.figures: 'audit' needs audit: true; leave the figure out"
    values["experiments"]["main"]["figures"] = ["batches"]
    assert refusal(values) == "config: experiments.main.figures: 'batches' needs audit: true; leave the figure out"


def test_batches_of_what_may_be_real_people_are_shown_on_request_only(values: dict[str, Any], world: Path) -> None:
    values["experiments"]["main"]["figures"] = ["batches"]
    assert not Config.parse(values).real_people
    values["datasets"]["drawn-a"] = {"layout": "market1501", "root": str(world)}
    assert refusal(values).startswith(
        "config: experiments.main.figures: 'batches' shows training images, and 'drawn-a' may hold real people; leave "
    )
    values["real_people"] = True
    assert Config.parse(values).real_people


def test_a_weight_file_that_is_not_there_is_refused_before_any_job(values: dict[str, Any], tmp_path: Path) -> None:
    values["backbones"]["small"] |= {"pretrained": str(tmp_path / "w.safetensors"), "pretrain": None}
    assert refusal(values) == (
        f"config: backbones.small.pretrained: there is no file {tmp_path}/w.safetensors; give a weight file or a tag"
    )
    (tmp_path / "w.safetensors").touch()
    assert Config.parse(values)
    values["backbones"]["small"]["pretrained"] = "some-tag"
    assert Config.parse(values)
