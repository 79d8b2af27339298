"""Both stages of training: schedules step by step, equal digests of equal runs, faults named, curves."""

import csv
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from dfgs.config import BackboneSettings, Config, FinetuneSettings, PromptSettings
from dfgs.data import normalise
from dfgs.datasets.base import join
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError
from dfgs.extraction import embed_targets
from dfgs.feature_sets import read_feature_set
from dfgs.grid import Grid, Trial
from dfgs.models.cameras import CameraEmbedding
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.features import Features
from dfgs.provenance import digest_file, read_json
from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers._graph import GraphSampler
from dfgs.samplers.base import BatchSampler
from dfgs.samplers.dfgs import Dfgs
from dfgs.training import loop, prompts
from dfgs.training.auditing import HEADER, EpochAudits
from dfgs.training.finetune import GraphFeatures, finetune, write_curve
from dfgs.training.loop import hardness
from dfgs.training.pretrain import pretrain
from dfgs.training.prompts import learn_prompts
from dfgs.training.schedules import finetune_rate, prompt_rate
from dfgs.training.source import load_source
from dfgs.training.source_features import embed_source
from dfgs.vision import open_clip

Values = dict[str, Any]
Run = Callable[..., dict[str, Path]]
CPU = torch.device("cpu")
BANK = {"class": "dfgs", "neighbours": 3, "skip": 1, "features": "bank"}
LOGGED = [
    "epoch",
    "step",
    "learning_rate",
    "loss_image-to-text",
    "loss_triplet",
    "anchors_without_positive",
    "loss",
    "hardest_negative",
    "hardest_positive",
    "passes",
    "restarts",
    "identities_served",
    "images_served",
    "images_repeated",
    "graph_recall",
]


def job_of(values: Values, sampler: str = "pk", seed: int = 0, source: str = "a") -> Values:
    """The fine-tuning job of a trial."""
    job: Values = Grid(Config.parse(values)).finetune_job(Trial(source, "tiny", sampler, seed))
    return job


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder for the files of stage 1, made once for each source that asks."""
    return {"folder": tmp_path_factory.mktemp("prompts")}


def learn(values: Values, output: Path, source: str = "a", seed: int = 0, start: int = 1) -> Path:
    """Run stage 1 on random weights drawn from `start`."""
    torch.manual_seed(start)
    learn_prompts(Grid(Config.parse(values)).prompts_job(source, "tiny", seed), None, output, 0, CPU)
    return output


@pytest.fixture
def run(on_disk: Values, learned: dict[str, Path], tmp_path: Path) -> Run:
    """Run stage 2 of a changed configuration into a fresh folder and return its files."""
    counter = iter(range(100))

    def tune(job: Values, workers: int = 0) -> dict[str, Path]:
        source = job["source"]["name"]
        start = learned["folder"] / f"{source}.safetensors"
        if not start.exists():
            learn(on_disk, start, source)
        folder = tmp_path / f"run-{next(counter)}"
        output = {"weights": folder / "weights.safetensors", "record": folder / "record.json"}
        output |= {name: folder / f"{name}.csv" for name in ("curve", "audit")}
        finetune(job, start, output, workers, CPU)
        return output

    return tune


def curve_of(output: dict[str, Path]) -> list[dict[str, str]]:
    with output["curve"].open(newline="") as handle:
        return list(csv.DictReader(handle))


def paper_finetune(**changes: Any) -> FinetuneSettings:
    """Stage 2 as CLIP-DFGS's code sets it."""
    values = {
        "epochs": 60,
        "iterations": None,
        "learning_rate": 5e-6,
        "bias_factor": 2,
        "weight_decay": 1e-4,
        "warmup_epochs": 10,
        "warmup_factor": 0.1,
        "milestones": (30, 50),
        "decay": 0.1,
        "shared_schedule": True,
        "losses": {"triplet": {}},
    }
    return FinetuneSettings.model_validate(values | changes)


def test_stage_2_behind_one_epoch_of_prior_has_the_rates_of_clip_dfgs() -> None:
    rates = {epoch: finetune_rate(paper_finetune(), epoch + 1) for epoch in range(1, 61)}
    assert rates[1] == pytest.approx(1.4e-6)
    for epoch in range(1, 9):
        t = epoch + 1
        assert rates[epoch] == pytest.approx(5e-6 * (0.1 + 0.9 * t / 10))
    assert all(rates[epoch] == pytest.approx(5e-6) for epoch in range(9, 29))
    assert all(rates[epoch] == pytest.approx(5e-7) for epoch in range(29, 49))
    assert all(rates[epoch] == pytest.approx(5e-8) for epoch in range(49, 61))


def test_stage_2_of_clip_reid_starts_its_schedule_at_its_own_first_epoch() -> None:
    rates = [finetune_rate(paper_finetune(), epoch) for epoch in (1, 9, 10, 29, 30, 49, 50)]
    assert rates == pytest.approx([0.95e-6, 4.55e-6, 5e-6, 5e-6, 5e-7, 5e-7, 5e-8])


def test_without_warm_up_the_first_epoch_has_the_full_rate() -> None:
    assert finetune_rate(paper_finetune(warmup_epochs=0), 1) == pytest.approx(5e-6)


def test_the_order_of_milestones_does_not_matter() -> None:
    there, back = (paper_finetune(milestones=milestones) for milestones in ((30, 50), (50, 30)))
    assert [finetune_rate(there, e) for e in range(1, 61)] == [finetune_rate(back, e) for e in range(1, 61)]


def test_prompts_warm_up_for_five_epochs_and_follow_a_cosine() -> None:
    values = {"context": 4, "epochs": 120, "batch_size": 64, "learning_rate": 3.5e-4, "warmup_epochs": 5}
    rest = {"warmup_rate": 1e-5, "final_rate": 1e-6, "weight_decay": 1e-4, "shuffle": True, "drop_last": False}
    settings = PromptSettings.model_validate(values | rest)
    rates = [prompt_rate(settings, epoch) for epoch in range(121)]
    assert rates[:5] == pytest.approx([1e-5 + epoch * (3.5e-4 - 1e-5) / 5 for epoch in range(5)])
    for epoch in range(5, 121):
        expected = 1e-6 + 0.5 * (3.5e-4 - 1e-6) * (1 + np.cos(np.pi * epoch / 120))
        assert rates[epoch] == pytest.approx(expected)
    assert rates[120] == pytest.approx(1e-6)


@pytest.mark.parametrize(("shared", "first"), [(True, 2), (False, 1)])
def test_a_run_follows_its_schedule_and_counts_the_prior_in_where_it_is_shared(
    on_disk: Values, run: Run, shared: bool, first: int
) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {
        "shared_schedule": shared,
        "epochs": 3,
        "iterations": 1,
        "milestones": [4],
    }
    rows = curve_of(run(job_of(on_disk)))
    settings = Config.parse(on_disk).models["tiny"].finetune
    expected = [finetune_rate(settings, first + epoch) for epoch in range(3)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(expected)
    assert len(set(expected)) == 3


def test_equal_runs_give_equal_weights_and_another_seed_gives_others(on_disk: Values, run: Run) -> None:
    first, again, other = (run(job_of(on_disk, seed=seed)) for seed in (0, 0, 1))
    assert digest_file(first["weights"]) == digest_file(again["weights"])
    assert digest_file(first["curve"]) == digest_file(again["curve"])
    assert digest_file(first["weights"]) != digest_file(other["weights"])
    before = load_file(Path(again["weights"]))
    assert all(bool(tensor.isfinite().all()) for tensor in before.values())


@pytest.mark.parametrize("sampler", ["pk", "dfgs-k3", "dfgs-bank"])
def test_the_number_of_workers_changes_no_bit_even_where_a_pass_ends_inside_an_epoch(
    on_disk: Values, run: Run, sampler: str
) -> None:
    on_disk["samplers"]["dfgs-bank"] = BANK
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 15
    runs = [run(job_of(on_disk, sampler), workers) for workers in (0, 2)]
    assert digest_file(runs[0]["weights"]) == digest_file(runs[1]["weights"])
    assert runs[0]["curve"].read_text() == runs[1]["curve"].read_text()
    passes = [int(row["passes"]) for row in curve_of(runs[0])]
    assert passes[0] >= 2  # a pass over 10 identities has fewer than 15 batches
    assert read_json(runs[0]["record"])["graphs"] == (0 if sampler == "pk" else sum(passes))


def test_a_curve_has_one_row_per_epoch_with_every_figure(on_disk: Values, run: Run) -> None:
    rows = curve_of(run(job_of(on_disk)))
    assert list(rows[0]) == LOGGED
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8")]
    for row in rows:
        assert float(row["loss"]) == pytest.approx(float(row["loss_triplet"]) + float(row["loss_image-to-text"]))
        assert float(row["anchors_without_positive"]) == 0
        assert 0 < float(row["hardest_negative"]) < 2
        assert 0 < float(row["hardest_positive"]) < 2
        assert int(row["images_served"]) + int(row["images_repeated"]) == 4 * 8


def test_restarts_of_a_walk_are_told_with_the_epoch_and_a_run_without_them_tells_of_none(
    on_disk: Values, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def give(self: GraphFeatures, sampler: BatchSampler, index: int) -> None:
        """Two groups of five identities without an edge between them."""
        if sampler.graph:
            apart = np.random.default_rng(index).normal(size=(10, 2)) + 1000 * (np.arange(10) < 5)[:, None]
            sampler.set_features(identities=sampler.labels.identities, image=apart)

    monkeypatch.setattr(GraphFeatures, "give", give)
    on_disk["experiments"]["main"]["samplers"].append("dfgs-k3")
    with caplog.at_level("INFO", logger="dfgs"):
        rows = curve_of(run(job_of(on_disk, "dfgs-k3")))
        told = [line for line in caplog.messages if line.startswith("stage 2 epoch")]
        caplog.clear()
        run(job_of(on_disk))
    assert int(rows[0]["restarts"]) > 0
    for line, row in zip(told, rows, strict=True):
        expected = f"{row['restarts']} restarts in {row['passes']} passes, {row['identities_served']} of 10 identities"
        assert (expected in line) == (row["restarts"] != "0")
    assert "restarts" not in caplog.text


def test_random_batches_log_the_share_of_anchors_without_a_positive(on_disk: Values, run: Run) -> None:
    shares = [float(row["anchors_without_positive"]) for row in curve_of(run(job_of(on_disk, "random")))]
    assert all(0 < share < 1 for share in shares)


def test_several_datasets_train_as_one_source(on_disk: Values, run: Run) -> None:
    record = read_json(run(job_of(on_disk, source="ab"))["record"])
    alone = read_json(run(job_of(on_disk))["record"])
    assert record["identities"] == 2 * alone["identities"] == 20
    assert record["images"] == 2 * alone["images"]


def test_the_record_tells_the_trial_its_job_and_the_digest_of_its_weights(on_disk: Values, run: Run) -> None:
    job = job_of(on_disk)
    output = run(job)
    record = read_json(output["record"])
    assert record["trial"] == {"source": "a", "model": "tiny", "sampler": "pk", "seed": 0}
    assert record["job"] == json.loads(json.dumps(job))
    assert record["weights"] == digest_file(output["weights"])
    assert record["graphs"] == 0
    assert {"commit", "versions", "seconds"} <= set(record)


@pytest.mark.parametrize("sampler", ["pk", "dfgs-k3", "dfgs-bank"])
def test_the_record_tells_the_time_of_every_epoch_and_the_share_of_the_sampler(
    on_disk: Values, run: Run, sampler: str
) -> None:
    on_disk["samplers"]["dfgs-bank"] = BANK
    record = read_json(run(job_of(on_disk, sampler))["record"])
    whole, part = record["epoch_seconds"], record["sampler_seconds"]
    assert len(whole) == len(part) == 2
    assert all(0 < p < w for p, w in zip(part, whole, strict=True))
    assert record["sampler_share"] == pytest.approx([p / w for p, w in zip(part, whole, strict=True)])
    assert record["graph_seconds"] <= sum(part)
    assert sum(whole) < record["seconds"]
    assert ("graph_agreement" in record) == (sampler == "dfgs-bank")
    graphs = record["graphs"]
    used = {"pk": {}, "dfgs-k3": {"fresh": graphs}, "dfgs-bank": {"fresh": 1, "bank": graphs - 1}}
    assert record["graph_features"] == used[sampler]


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> dict[bool, int]:
    """Images that stage 2's encoder has seen in training mode (True) and in evaluation mode (False)."""
    seen = {True: 0, False: 0}

    class Counting(ImageEncoder):
        def forward(self, images: torch.Tensor, rows: torch.Tensor | None = None) -> Features:
            seen[self.training] += len(images)
            return super().forward(images, rows)

    monkeypatch.setattr("dfgs.training.finetune.ImageEncoder", Counting)
    return seen


@pytest.mark.parametrize("sampler", ["dfgs-k3", "dfgs-bank"])
def test_a_bank_embeds_for_the_first_graph_and_at_the_end_and_nothing_in_between(
    on_disk: Values, run: Run, embedded: dict[bool, int], sampler: str
) -> None:
    on_disk["samplers"]["dfgs-bank"] = BANK
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 20
    record = read_json(run(job_of(on_disk, sampler) | {"audit": False})["record"])
    assert record["graphs"] > 3
    clean = 10 * record["graphs"] if sampler == "dfgs-k3" else 10 + record["images"]
    assert embedded == {True: 2 * 20 * 8, False: clean}


def test_a_bank_leaves_its_first_pass_as_it_is_with_fresh_features(on_disk: Values, run: Run) -> None:
    on_disk["samplers"]["dfgs-bank"] = BANK
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 1, "iterations": 5}
    fresh, bank = (run(job_of(on_disk, sampler)) for sampler in ("dfgs-k3", "dfgs-bank"))
    assert digest_file(fresh["weights"]) == digest_file(bank["weights"])
    assert read_json(bank["record"])["graphs"] == 1


def test_a_bank_gives_the_moving_means_of_the_features_seen_in_training(
    on_disk: Values, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk["samplers"]["dfgs-bank"] = BANK | {"graph": "both"}
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 20
    events: list[tuple[str, Any]] = []
    kept: list[Any] = []
    give, step = Dfgs.set_features, loop.hardness

    def given(self: Dfgs, **features: Any) -> None:
        events.append(("given", features["image"].copy()))
        kept.append(features["image"])
        give(self, **features)

    def seen(features: Features, labels: torch.Tensor) -> dict[str, float]:
        rows = torch.cat([features.pooled, features.projected], dim=1).detach().numpy()
        events.append(("seen", (rows, labels.numpy())))
        return step(features, labels)

    monkeypatch.setattr(Dfgs, "set_features", given)
    monkeypatch.setattr(loop, "hardness", seen)
    run(job_of(on_disk, "dfgs-bank"))
    first = [kind for kind, _ in events].index("given")  # before it, stage 1 may have run its prior
    means, rest = events[first][1].copy(), events[first + 1 :]
    assert [kind for kind, _ in rest].count("seen") == 40
    for kind, value in rest:
        if kind == "given":
            np.testing.assert_allclose(value, means, rtol=1e-4, atol=1e-5)
        else:
            for pid in set(value[1].tolist()):
                means[pid] = 0.5 * means[pid] + 0.5 * value[0][value[1] == pid].mean(0)
    assert len(kept) > 3
    copies = [value for kind, value in events if kind == "given"]
    assert all((a == b).all() for a, b in zip(kept, copies, strict=True))  # later steps leave them alone


def test_the_training_images_of_a_run_are_embedded_as_its_sampler_saw_them(
    on_disk: Values, run: Run, learned: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    learn(on_disk, learned["folder"] / "ab.safetensors", "ab")
    given: list[Any] = []
    set_features = GraphSampler.set_features

    def spy(self: GraphSampler, **features: Any) -> None:
        given.append((self, features["image"]))
        set_features(self, **features)

    on_disk["samplers"]["dfgs-k3"]["representation"] = "mean"
    on_disk["experiments"]["main"]["samplers"].append("dfgs-k3")
    # One step with a rate of almost nothing, so that the features after it are those before it.
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 1, "iterations": 1, "learning_rate": 1e-12}
    monkeypatch.setattr(GraphSampler, "set_features", spy)
    output = run(job_of(on_disk, "dfgs-k3", source="ab"))
    embed_source(output["record"], tmp_path / "train.npz", 0, CPU)
    found = read_feature_set(tmp_path / "train.npz")
    assert found.is_all_against_all
    assert found.is_drawn
    ((sampler, image),) = given
    assert found.gallery.pids.tolist() == (sampler.labels.pids + 1).tolist()
    assert found.gallery.camids.tolist() == sampler.labels.camids.tolist()
    assert len(set(found.gallery_paths)) == len(sampler.labels) // 2  # the two datasets of this source are one folder
    means = [found.gallery.features[sampler.labels.rows == row].mean(axis=0) for row in range(20)]
    np.testing.assert_allclose(means, image, rtol=1e-4, atol=1e-5)
    with np.load(tmp_path / "train.npz") as archive:
        assert archive["domains"].tolist() == sampler.labels.domains.tolist()


def test_training_images_are_embedded_only_with_the_weights_of_the_record(
    on_disk: Values, run: Run, tmp_path: Path
) -> None:
    output, target = run(job_of(on_disk)), tmp_path / "train.npz"
    with pytest.raises(DfgsError, match=r"the suffix is '\.csv'; features are written to a \.npz"):
        embed_source(output["record"], target.with_suffix(".csv"), 0, CPU)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DfgsError, match=r"other\.json: expected the record\.json of a trained run"):
        embed_source(tmp_path / "other.json", target, 0, CPU)
    save_file({"text": torch.zeros(3)}, output["weights"])
    with pytest.raises(DfgsError, match=r"weights\.safetensors are not those that .*record\.json tells of"):
        embed_source(output["record"], target, 0, CPU)
    output["weights"].unlink()
    with pytest.raises(DfgsError, match=r"weights\.safetensors: no such file"):
        embed_source(output["record"], target, 0, CPU)
    assert not target.exists()


def test_iterations_that_are_not_given_are_images_by_batch_size(on_disk: Values, run: Run) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {"iterations": None, "epochs": 1}
    output = run(job_of(on_disk))
    assert int(curve_of(output)[0]["step"]) == read_json(output["record"])["images"] // 8


@pytest.mark.parametrize("sampler", ["pk", "random"])
def test_a_loss_that_is_not_finite_stops_the_run_with_stage_step_and_sampler(
    on_disk: Values, run: Run, tmp_path: Path, sampler: str
) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {"learning_rate": 1e30, "epochs": 9, "iterations": 1}
    expected = rf"^stage 2 with sampler '{sampler}': the loss is (nan|inf|-inf) at step [2-9] \([^\n]+$"
    with pytest.raises(DfgsError, match=expected):
        run(job_of(on_disk, sampler))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_prior_whose_loss_is_not_finite_is_named_too(on_disk: Values, tmp_path: Path) -> None:
    on_disk["models"]["tiny"]["finetune"]["learning_rate"] = 1e30
    with pytest.raises(DfgsError, match=r"^prior with sampler 'pk': the loss is (nan|inf|-inf) at step [2-9] "):
        learn(on_disk, tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())


def test_prompts_whose_loss_is_not_finite_are_named(on_disk: Values, tmp_path: Path) -> None:
    on_disk["models"]["tiny"]["prior"] = None
    on_disk["models"]["tiny"]["prompts"] |= {"learning_rate": 1e30, "warmup_rate": 1e30, "epochs": 4}
    with pytest.raises(DfgsError, match=r"^prompts \(stage 1\): the loss is (nan|inf|-inf) in epoch [1-4]; lower"):
        learn(on_disk, tmp_path / "p.safetensors")


def test_a_sampler_argument_that_is_not_known_is_named(on_disk: Values, run: Run) -> None:
    on_disk["samplers"]["pk"] = {"neigbours": 3}
    with pytest.raises(DfgsError, match=r"^config: samplers\.pk: class pk has no argument 'neigbours'"):
        run(job_of(on_disk))


def test_more_identities_per_batch_than_there_are_is_refused_with_both_numbers(on_disk: Values, run: Run) -> None:
    on_disk["models"]["tiny"]["batch"] = {"size": 24, "instances": 2}
    with pytest.raises(DfgsError, match=r"12.*10|10.*12"):
        run(job_of(on_disk))


def test_the_optimiser_of_the_loop_moves_weights_as_the_one_without_loops_over_lists() -> None:
    settings = SimpleNamespace(learning_rate=1e-2, weight_decay=1e-4, bias_factor=2.0)

    def steps(plain: bool) -> list[bytes]:
        torch.manual_seed(0)
        encoder: Any = nn.Sequential(nn.Linear(37, 91), nn.ReLU(), nn.Linear(91, 5))
        encoder.device = CPU
        optimiser = loop._optimiser(SimpleNamespace(encoder=encoder, losses={}, settings=settings))  # type: ignore[arg-type]
        assert all(group["foreach"] for group in optimiser.param_groups)
        for group in optimiser.param_groups:
            group["foreach"] = not plain
        for _ in range(5):
            optimiser.zero_grad()
            encoder(torch.randn(8, 37)).square().mean().backward()
            optimiser.step()
        return [p.detach().numpy().tobytes() for p in encoder.parameters()]

    assert steps(plain=False) == steps(plain=True)


def test_biases_learn_at_their_own_factor_of_the_rate(on_disk: Values, run: Run, learned: dict[str, Path]) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 1, "iterations": 1, "bias_factor": 3, "weight_decay": 0}
    output = run(job_of(on_disk))
    rate = float(curve_of(output)[0]["learning_rate"])
    before, after = load_file(learned["folder"] / "a.safetensors"), load_file(output["weights"])
    moved = {name: float((tensor - before[f"visual.{name}"]).abs().max()) for name, tensor in after.items()}
    # Adam's first step moves a weight by the rate wherever its gradient is not tiny.
    assert moved["attnpool.v_proj.bias"] == pytest.approx(3 * rate, rel=0.02)
    assert moved["attnpool.v_proj.weight"] == pytest.approx(rate, rel=0.02)
    assert not any(delta for name, delta in moved.items() if "running" in name)


def test_stage_2_takes_what_stage_1_left_and_not_the_backbone(on_disk: Values, run: Run) -> None:
    job = job_of(on_disk)
    torch.manual_seed(1)
    first = run(job)
    torch.manual_seed(2)
    assert digest_file(first["weights"]) == digest_file(run(job)["weights"])


def test_equal_stage_1_runs_give_equal_files_and_another_seed_gives_others(on_disk: Values, tmp_path: Path) -> None:
    files = [learn(on_disk, tmp_path / f"{i}.safetensors", seed=seed) for i, seed in enumerate((0, 0, 1))]
    digests = [digest_file(path) for path in files]
    assert digests[0] == digests[1] != digests[2]
    tensors = load_file(files[0])
    assert tensors["contexts"].shape == (10, 2, 64)
    assert tensors["text"].shape == (10, 128)
    assert len({row.numpy().tobytes() for row in tensors["text"]}) == 10


def test_the_prior_moves_the_image_tower_and_without_one_it_stays(on_disk: Values, tmp_path: Path) -> None:
    moved = load_file(learn(on_disk, tmp_path / "with.safetensors"))
    on_disk["models"]["tiny"]["prior"] = None
    kept = load_file(learn(on_disk, tmp_path / "without.safetensors"))
    on_disk["models"]["tiny"]["prompts"]["epochs"] = 1
    still = load_file(learn(on_disk, tmp_path / "again.safetensors"))
    tower = [name for name in kept if name.startswith("visual.")]
    assert all(torch.equal(kept[name], still[name]) for name in tower)
    assert not torch.equal(kept["contexts"], still["contexts"])
    assert not torch.equal(kept["visual.attnpool.c_proj.weight"], moved["visual.attnpool.c_proj.weight"])


def test_every_prompt_learns_to_match_the_images_of_its_own_identity(
    on_disk: Values, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = join([Market1501("any", world).train()]).pids
    centres = 3 * torch.randn(10, 128, generator=torch.Generator().manual_seed(0)) / 128**0.5
    monkeypatch.setattr(prompts, "embed_images", lambda *_: centres[torch.from_numpy(pids)])
    on_disk["models"]["tiny"]["prior"] = None
    on_disk["models"]["tiny"]["prompts"] |= {"epochs": 30, "learning_rate": 3e-2}
    text = load_file(learn(on_disk, tmp_path / "p.safetensors"))["text"]
    assert (text @ centres.T).argmax(0).tolist() == list(range(10))


def test_hardness_is_the_mean_distance_to_the_nearest_other_and_the_farthest_own_image() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(7, 3)), [0, 0, 0, 2, 2, 5, 9]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    negative, positive = [], []
    for i in range(7):
        distances = [float(np.linalg.norm(unit[i] - unit[j])) for j in range(7)]
        negative.append(min(d for d, label in zip(distances, labels, strict=True) if label != labels[i]))
        own = [d for j, d in enumerate(distances) if labels[j] == labels[i] and j != i]
        positive += [max(own)] if own else []
    tensor = torch.tensor(rows)
    found = hardness(Features(tensor, tensor, tensor), torch.tensor(labels))
    assert found == pytest.approx({"hardest_negative": np.mean(negative), "hardest_positive": np.mean(positive)})


def test_hardness_leaves_out_what_a_batch_does_not_have() -> None:
    tensor = torch.eye(3)
    features = Features(tensor, tensor, tensor)
    assert set(hardness(features, torch.tensor([0, 1, 2]))) == {"hardest_negative"}
    assert set(hardness(features, torch.tensor([4, 4, 4]))) == {"hardest_positive"}


TINY_VIT = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def test_a_camera_embedding_is_learned_saved_and_used_for_the_cameras_it_knows(
    on_disk: Values, run: Run, learned: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "camera-vit.json").write_text(json.dumps(TINY_VIT))
    open_clip.add_model_config(tmp_path / "camera-vit.json")
    on_disk["backbones"]["small"]["architecture"] = "camera-vit"
    on_disk["models"]["tiny"] |= {"prior": None, "camera_embedding": 1.0}
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 1, "iterations": 2, "learning_rate": 1e-2, "warmup_epochs": 0}
    on_disk["experiments"]["main"]["samplers"].append("dfgs-k3")
    monkeypatch.setitem(learned, "folder", tmp_path)
    output = run(job_of(on_disk, "dfgs-k3"))
    tower = load_file(output["weights"])
    assert tower["cameras.table"].shape == (3, 32)
    fresh = CameraEmbedding([("drawn-a", c) for c in (1, 2, 3)], 32, 1.0, torch.Generator().manual_seed(0)).table
    assert not torch.allclose(tower["cameras.table"], fresh.detach(), atol=1e-3)
    job = Grid(Config.parse(on_disk)).embed_job(Trial("a", "tiny", "dfgs-k3", 0))
    index = tmp_path / "features" / "index.json"
    embed_targets(job, {"trained": output["weights"]}, index, 0, CPU)
    known, other = (
        np.load(index.parent / read_json(index)["features"][f"{name}/query"])
        for name in ("drawn-a/test", "drawn-b/half-0")
    )
    both = Market1501("any", Path(on_disk["datasets"]["drawn-a"]["root"]))
    names = [path.name for path in both.query("test").paths]
    rows = [names.index(path.name) for path in both.query("half-0").paths]
    assert not np.allclose(known[rows], other, atol=1e-4)  # the same pictures, seen by cameras that were not trained on
    on_disk["models"]["tiny"]["camera_embedding"] = None
    plain = Grid(Config.parse(on_disk)).embed_job(Trial("a", "tiny", "dfgs-k3", 0))
    assert "camera_embedding" not in plain
    with pytest.raises(DfgsError, match=r"have a camera embedding, camera_embedding is None; train anew$"):
        embed_targets(plain, {"trained": output["weights"]}, index, 0, CPU)


def test_no_stage_asks_for_the_network(
    on_disk: Values, run: Run, learned: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a job asked for the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setitem(learned, "folder", tmp_path)  # stage 1, prior included, runs here too
    output = run(job_of(on_disk))
    job = Grid(Config.parse(on_disk)).embed_job(Trial("a", "tiny", "pk", 0))
    for weights in ({"trained": output["weights"]}, {}):
        embed_targets(job, weights, tmp_path / "index.json", 0, CPU)
    with pytest.raises(AssertionError, match="asked for the network"):
        socket.create_connection(("localhost", 9))


def test_a_resnet_has_no_camera_embedding(on_disk: Values, run: Run) -> None:
    on_disk["models"]["tiny"]["camera_embedding"] = 1.0
    with pytest.raises(DfgsError, match=r"camera_embedding needs a Vision Transformer, the backbone is a ResNet"):
        run(job_of(on_disk))


def test_a_figure_that_an_epoch_lacks_is_left_empty(tmp_path: Path) -> None:
    write_curve([{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.0, "hardest_positive": 0.5}], tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == "epoch,loss,hardest_positive\n1,2.5,\n2,1.0,0.5\n"


def test_pretraining_is_reproducible_and_reports_retrieval_beside_chance(values: Values, tmp_path: Path) -> None:
    job = Grid(Config.parse(values)).pretrain_job("small")
    for name in ("one", "two"):
        torch.manual_seed(len(list(tmp_path.iterdir())))
        pretrain(job, tmp_path / f"{name}.safetensors", tmp_path / f"{name}.json", CPU)
    assert digest_file(tmp_path / "one.safetensors") == digest_file(tmp_path / "two.safetensors")
    report = read_json(tmp_path / "one.json")
    assert report["caption_chance"] == pytest.approx(100 / 10)
    assert report["pairs"] == 10
    assert 0 <= report["caption_recall_at_1"] <= 100
    assert all(np.isfinite(report["loss"]))


def test_pretraining_without_enough_distinct_captions_is_refused_with_both_numbers(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfgs.training import pretrain as module

    corpus = module.draw_corpus

    def alike(*arguments: Any) -> Any:
        drawn = corpus(*arguments)
        return module.Corpus(drawn.pixels, drawn.captions, ["same"] * len(drawn.looks))

    monkeypatch.setattr(module, "draw_corpus", alike)
    with pytest.raises(DfgsError, match="only 1 distinct captions for held_out=10"):
        pretrain(Grid(Config.parse(values)).pretrain_job("small"), tmp_path / "w", tmp_path / "r", CPU)


def test_the_digest_of_a_source_sees_who_is_on_its_images(on_disk: Values) -> None:
    source = load_source(job_of(on_disk)["source"], Config.parse(on_disk).backbones["small"])
    assert replace(source).digest == source.digest
    assert replace(source, pids=source.pids.flip(0)).digest != source.digest


def test_prompts_of_another_source_are_refused_though_their_number_fits(
    on_disk: Values, world: Path, tmp_path: Path
) -> None:
    learned = learn(on_disk, tmp_path / "p.safetensors")
    with pytest.raises(DfgsError, match=r"p\.safetensors were learned on other training images than .* source 'b'"):
        finetune(job_of(on_disk, source="b"), learned, {}, 0, CPU)
    shutil.copytree(world, tmp_path / "copy")
    image = min((tmp_path / "copy" / "bounding_box_train").iterdir())
    image.rename(image.with_name(image.name.replace("_c1s", "_c2s").replace("_00.jpg", "_09.jpg")))
    on_disk["datasets"]["drawn-a"]["root"] = str(tmp_path / "copy")
    with pytest.raises(DfgsError, match=r"p\.safetensors were learned on other training images than .* source 'a'"):
        finetune(job_of(on_disk), learned, {}, 0, CPU)


def test_damaged_prompts_are_named(on_disk: Values, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_file({"text": torch.zeros(3)}, path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DfgsError, match=r"p\.safetensors"):
        finetune(job_of(on_disk), path, {}, 0, CPU)


@pytest.mark.parametrize("sampler", ["pk", "dfgs-k3"])
def test_the_audit_changes_no_bit_of_a_training(on_disk: Values, run: Run, sampler: str) -> None:
    job = job_of(on_disk, sampler)
    audited, plain = run(job), run(job | {"audit": False})
    assert digest_file(audited["weights"]) == digest_file(plain["weights"])
    assert audited["curve"].read_text() == plain["curve"].read_text()
    assert len(audited["audit"].read_text().splitlines()) == 3
    assert plain["audit"].read_text() == ",".join(HEADER) + "\n"


def test_the_first_and_the_last_epoch_are_audited_by_the_batches_that_they_served(on_disk: Values, run: Run) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 3, "iterations": 15}
    on_disk["samplers"]["dfgs-k3"] |= {"class": "dfgs-permuted"}
    output = run(job_of(on_disk, "dfgs-k3"))
    rows, curve = pd.read_csv(output["audit"]), pd.read_csv(output["curve"])
    served = curve.set_index("epoch").loc[[1, 3]].reset_index()
    assert rows["epoch"].tolist() == [1, 3]
    for name in ("restarts", "identities_served", "images_served", "images_repeated"):
        assert rows[name].tolist() == served[name].tolist()
    assert rows["batches"].tolist() == [15, 15]
    assert (rows["graph_edges"] % 30 == 0).all()
    assert (rows["graph_edges"] > 30).all()  # a pass has fewer than 15 batches
    assert rows["by_design"].tolist() == [1, 1]
    assert read_json(output["record"])["audit_seconds"] > 0


def test_the_record_names_the_images_of_the_first_batch_of_the_first_and_the_last_epoch(
    on_disk: Values, run: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[NDArray[np.int64]] = []
    whole = EpochAudits.end

    def spy(self: EpochAudits, epoch: int, passes: ContinuedPasses) -> None:
        served.append(passes.images[0])
        whole(self, epoch, passes)

    monkeypatch.setattr(EpochAudits, "end", spy)
    batches = read_json(run(job_of(on_disk))["record"])["batches"]
    assert list(batches) == ["1", "2"]
    train = Market1501("drawn-a", world).train()
    for batch, images in zip(batches.values(), served, strict=True):
        names = [f"drawn-a/{train.paths[i].relative_to(world).as_posix()}" for i in images]
        numbers = np.unique(train.pids, return_inverse=True)[1]
        assert batch == {"images": names, "pids": numbers[images].tolist()}
    assert batches["1"] != batches["2"]


def test_one_epoch_is_audited_once(on_disk: Values, run: Run) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 1}
    assert pd.read_csv(run(job_of(on_disk))["audit"])["epoch"].tolist() == [1]


def test_the_audit_sees_clean_features_of_the_model_and_leaves_its_mode_and_all_random_states(on_disk: Values) -> None:
    job = job_of(on_disk)
    backbone = BackboneSettings.model_validate(job["backbone"])
    source = load_source(job["source"], backbone)
    torch.manual_seed(0)
    encoder = ImageEncoder(build_clip(backbone, None).visual, True).train()
    audits = EpochAudits(job, encoder, source, 0, CPU)
    modes = [module.training for module in encoder.modules()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    audits.begin(1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert [module.training for module in encoder.modules()] == modes
    images = normalise(torch.stack([source.store[i] for i in range(len(source.store))]), "clip")
    with torch.inference_mode():
        expected = encoder.eval()(images.contiguous(memory_format=torch.channels_last))
    assert audits.features is not None
    both = torch.cat([expected.pooled, expected.projected], dim=1).numpy()
    np.testing.assert_allclose(audits.features, both, rtol=1e-3, atol=1e-4)


def test_a_source_of_all_images_joins_the_combined_views(on_disk: Values, world: Path) -> None:
    backbone = Config.parse(on_disk).backbones["small"]
    part = {"name": "drawn", "layout": "market1501", "root": str(world), "options": {}}
    dataset = Market1501("drawn", world)
    for view, own in (("train", dataset.train()), ("combined", dataset.combined())):
        source = load_source({"name": "s", "datasets": [part, part], "view": view}, backbone)
        assert source.store.paths == own.paths * 2
        assert source.identities == 2 * len(np.unique(own.pids))
    assert len(dataset.combined()) > len(dataset.train())
