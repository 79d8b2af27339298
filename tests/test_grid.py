"""The grid: what runs, once, and jobs that hold what decides their result and nothing else."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from dfgs.config import Config
from dfgs.grid import Grid, Trial

Values = dict[str, Any]


def grid(values: Values) -> Grid:
    """The grid of a plain dictionary."""
    return Grid(Config.parse(values))


def add_experiment(values: Values, name: str, **changes: Any) -> None:
    """Define another experiment like `main` and run it too."""
    values["experiments"][name] = values["experiments"]["main"] | changes
    values["run"].append(name)


def jobs(values: Values) -> dict[str, str]:
    """Every job that runs, by rule and wildcards, as the text that is its rerun key."""
    made = grid(values)
    found: dict[str, Any] = {}
    for trial in made.all_trials():
        found[f"prompts {trial.source} {trial.model} {trial.seed}"] = [
            made.prompts_job(trial.source, trial.model, trial.seed),
            made.prior_digest(trial.model),
        ]
        found[f"finetune {trial.path}"] = [
            made.finetune_job(trial),
            made.sampler_digest(trial.sampler),
            made.loss_digest(trial.model),
        ]
    references = [reference for name in made.config.run for reference in made.references(name)]
    for trial in made.all_trials() + references:
        found[f"embed {trial.path}"] = made.embed_job(trial)
        found[f"score {trial.path}"] = made.score_job(trial)
    return {name: json.dumps(job, sort_keys=True) for name, job in found.items()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Names of the jobs that are new or whose key is another one."""
    return {name for name in after if after[name] != before.get(name)}


def test_an_experiment_is_the_product_of_its_lists(values: Values) -> None:
    trials = grid(values).trials("main")
    expected = {(s, "tiny", n, i) for s in ("a", "ab") for n in ("pk", "random") for i in (0, 1)}
    assert {(t.source, t.model, t.sampler, t.seed) for t in trials} == expected
    assert len(trials) == 8
    assert trials == sorted(trials)


def test_equal_trials_of_two_experiments_run_once(values: Values) -> None:
    add_experiment(values, "more", sources=["a", "b"], samplers=["pk", "gs"])
    made = grid(values)
    everything = made.all_trials()
    both = made.trials("main") + made.trials("more")
    assert len(both) - len(everything) == 2  # source a with pk and two seeds
    assert set(everything) == set(both)
    assert everything == sorted(set(everything))


def test_an_experiment_that_is_defined_and_not_run_adds_nothing(values: Values) -> None:
    before = jobs(values)
    add_experiment(values, "later", targets=["c"], seeds=[7])
    values["run"].remove("later")
    assert jobs(values) == before


def test_another_sampler_adds_its_own_jobs_only(values: Values) -> None:
    before = jobs(values)
    values["experiments"]["main"]["samplers"].append("dfgs-k3")
    new = changed(before, jobs(values))
    paths = [f"{source}/tiny/dfgs-k3/s{seed}" for source in ("a", "ab") for seed in (0, 1)]
    assert new == {f"{rule} {path}" for rule in ("finetune", "embed", "score") for path in paths}


def test_another_seed_adds_prompts_and_trainings_of_that_seed_only(values: Values) -> None:
    before = jobs(values)
    values["experiments"]["main"]["seeds"].append(5)
    new = changed(before, jobs(values))
    assert len(new) == 2 + 4 * 3
    assert all(name.endswith(("s5", " 5")) for name in new)


def test_another_target_trains_nothing(values: Values) -> None:
    before = jobs(values)
    values["experiments"]["main"]["targets"].append("c")
    assert {name.split()[0] for name in changed(before, jobs(values))} == {"embed", "score"}


def test_another_argument_of_a_sampler_changes_its_trainings_only(values: Values) -> None:
    values["experiments"]["main"]["samplers"].append("dfgs-k3")
    before = jobs(values)
    values["samplers"]["dfgs-k3"]["skip"] = 0
    new = changed(before, jobs(values))
    assert {name.split()[0] for name in new} == {"finetune"}
    assert all("/dfgs-k3/" in name for name in new)


def change_title(values: Values) -> None:
    values["experiments"]["main"]["title"] = "Another title"


def change_figures(values: Values) -> None:
    values["experiments"]["main"]["figures"] = []


def define_unused_sampler(values: Values) -> None:
    values["samplers"]["gs-again"] = {"class": "gs"}


@pytest.mark.parametrize("change", [change_title, change_figures, define_unused_sampler])
def test_what_no_result_depends_on_is_in_no_job(values: Values, change: Callable[[Values], None]) -> None:
    before = jobs(values)
    change(values)
    assert jobs(values) == before


def test_prompts_know_nothing_of_the_sampler_under_study(values: Values) -> None:
    made = grid(values)
    text = json.dumps(made.prompts_job("a", "tiny", 0))
    assert "sampler" not in text
    values["samplers"]["pk"] = {"class": "gs"}
    assert json.dumps(grid(values).prompts_job("a", "tiny", 0)) == text


def test_prompts_know_stage_2_only_where_a_prior_runs_its_schedule(values: Values) -> None:
    assert "finetune" in grid(values).prompts_job("a", "tiny", 0)
    values["models"]["tiny"]["prior"] = None
    made = grid(values)
    assert "finetune" not in made.prompts_job("a", "tiny", 0)
    assert made.prior_digest("tiny") == ""
    assert "prior" not in made.finetune_job(made.all_trials()[0])


def test_a_trial_is_scored_on_the_targets_of_all_experiments_that_share_it(values: Values) -> None:
    add_experiment(values, "more", sources=["a"], samplers=["pk"], targets=["c"])
    made = grid(values)
    assert made.targets("a", "tiny", "pk") == ["a", "b", "c"]
    assert made.targets("a", "tiny", "random") == ["a", "b"]
    assert made.targets("ab", "tiny", "pk") == ["a", "b"]
    job = made.score_job(Trial("a", "tiny", "pk", 0))
    assert [target["name"] for target in job["targets"]] == ["a", "b", "c"]
    assert [target["splits"] for target in job["targets"]] == [["test"], ["half-0", "half-1"], ["test"]]


def test_a_dataset_of_several_targets_is_embedded_once_with_all_their_splits(values: Values) -> None:
    values["targets"]["a-halves"] = {"dataset": "drawn-a", "splits": ["half-0", "test"]}
    values["experiments"]["main"]["targets"].append("a-halves")
    job = grid(values).embed_job(Trial("a", "tiny", "pk", 0))
    assert [(part["name"], part["splits"]) for part in job["datasets"]] == [
        ("drawn-a", ["half-0", "test"]),
        ("drawn-b", ["half-0", "half-1"]),
    ]


def test_the_untuned_backbone_is_scored_once_per_model_on_every_target(values: Values) -> None:
    values["models"]["other"] = values["models"]["tiny"]
    values["experiments"]["main"]["models"].append("other")
    made = grid(values)
    assert made.references("main") == [Trial("a", "other", "zero-shot", 0), Trial("a", "tiny", "zero-shot", 0)]
    assert made.targets("a", "tiny", "zero-shot") == ["a", "b"]
    assert not set(made.references("main")) & set(made.all_trials())


def test_within_are_the_pairs_whose_target_lies_in_the_source(values: Values) -> None:
    values["experiments"]["main"]["targets"].append("c")
    assert grid(values).within("main") == [("a", "a"), ("ab", "a"), ("ab", "b")]
    assert grid(values).report_job("main")["within"] == [["a", "a"], ["ab", "a"], ["ab", "b"]]


def test_the_report_knows_the_plan_and_whether_real_people_may_be_shown_where_there_is_one(values: Values) -> None:
    assert not {"contrasts", "margin", "real_people"} & set(grid(values).figure_job("main"))
    values["experiments"]["main"] |= {"baseline": "pk", "contrasts": ["random"], "margin": 0.7}
    job = grid(values | {"real_people": True}).figure_job("main")
    assert (job["contrasts"], job["margin"], job["real_people"]) == ([["random", "pk"]], 0.7, True)


def test_disagreements_are_told_the_planned_trials_in_order_and_what_was_scored(values: Values) -> None:
    values["samplers"]["gs"] = {}
    values["experiments"]["main"] |= {"samplers": ["pk", "random", "gs"], "baseline": "pk", "contrasts": ["random"]}
    found = grid(values)
    job = found.disagreements_job("main")
    assert job["trials"] == [asdict(trial) for trial in found.trials("main") if trial.sampler != "gs"]
    assert job["contrasts"] == [["random", "pk"]]
    assert [target["name"] for target in job["targets"]] == ["a", "b"]
    trial = found.trials("main")[0]
    assert job["targets"] == found.score_job(trial)["targets"]


def test_a_source_with_all_images_is_not_scored_on_them(values: Values) -> None:
    values["sources"]["a"] = {"datasets": ["drawn-a"], "view": "combined"}
    made = grid(values)
    assert made.targets("a", "tiny", "pk") == ["b"]
    assert made.targets("a", "tiny", "zero-shot") == ["a", "b"]
    assert made.finetune_job(Trial("a", "tiny", "pk", 0))["source"]["view"] == "combined"
    assert made.prompts_job("a", "tiny", 0)["source"]["view"] == "combined"


def test_a_source_that_is_written_as_a_map_of_training_images_changes_no_job(values: Values) -> None:
    before = jobs(values)
    assert not any('"view"' in job for job in before.values())
    values["sources"]["ab"] = {"datasets": ["drawn-a", "drawn-b"], "view": "train"}
    assert jobs(values) == before


def test_a_source_of_several_datasets_keeps_their_order(values: Values) -> None:
    values["sources"]["ab"] = ["drawn-b", "drawn-a"]
    job = grid(values).finetune_job(Trial("ab", "tiny", "pk", 0))
    assert [part["name"] for part in job["source"]["datasets"]] == ["drawn-b", "drawn-a"]


def test_a_sampler_setting_is_resolved_into_class_and_arguments(values: Values) -> None:
    made = grid(values)
    arguments = {"graph": "image", "neighbours": 3, "skip": 1}
    assert made.sampler("dfgs-k3") == {"name": "dfgs-k3", "class": "dfgs", "arguments": arguments}
    assert made.sampler("pk") == {"name": "pk", "class": "pk", "arguments": {}}
    assert made.sampler_digest("dfgs-k3") != made.sampler_digest("pk")


def test_fresh_features_are_in_no_job_and_a_bank_in_those_of_its_sampler(values: Values) -> None:
    values["experiments"]["main"]["samplers"].append("dfgs-k3")
    before = jobs(values)
    values["samplers"]["dfgs-k3"]["features"] = "fresh"
    assert jobs(values) == before
    values["samplers"]["dfgs-k3"]["features"] = "bank"
    new = changed(before, jobs(values))
    assert {name.split()[0] for name in new} == {"finetune"}
    assert all("/dfgs-k3/" in name for name in new)
    arguments = {"graph": "image", "neighbours": 3, "skip": 1}
    job = grid(values).sampler("dfgs-k3")
    assert job == {"name": "dfgs-k3", "class": "dfgs", "arguments": arguments, "features": "bank"}


def test_drawn_datasets_lie_below_results_and_real_ones_where_they_are(values: Values, tmp_path: Any) -> None:
    values["datasets"]["real"]["root"] = str(tmp_path)
    values["experiments"]["main"]["targets"] = ["a", "c"]
    values["targets"]["c"] = {"dataset": "real", "splits": ["test"]}
    parts = grid(values).embed_job(Trial("a", "tiny", "pk", 0))["datasets"]
    assert [part["root"] for part in parts] == ["results/worlds/drawn-a", str(tmp_path)]


def test_a_trial_is_read_back_from_its_wildcards() -> None:
    class Wildcards:
        source, model, sampler, seed = "ab", "tiny", "dfgs-k3", "12"

    trial = Trial.of(Wildcards)
    assert trial == Trial("ab", "tiny", "dfgs-k3", 12)
    assert trial.path == "ab/tiny/dfgs-k3/s12"


def test_only_models_on_drawn_weights_need_pretraining(values: Values) -> None:
    assert grid(values).needs_pretraining("tiny")
    values["backbones"]["small"] |= {"pretrained": "openai", "pretrain": None}
    assert not grid(values).needs_pretraining("tiny")


def test_every_job_is_json_and_names_no_folder_of_this_machine(values: Values) -> None:
    for text in jobs(values).values():
        assert json.loads(text) is not None
        assert "/home" not in text
        assert str(__file__).rsplit("/", 2)[0] not in text
