"""From long rows and a plan to the verdict, its two sentences and its notes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfgs.errors import DfgsError
from dfgs.stats.summarise import BACKBONE, ONE_SEED, Plan, summarise
from dfgs.stats.summary import Verdict

PLAN = Plan(
    experiment="main",
    title="Does it help?",
    sources=("a", "b"),
    seeds=tuple(range(8)),
    contrasts=(("up", "pk"), ("down", "pk"), ("same", "pk"), ("loose", "pk")),
    margin=0.5,
    within=frozenset({("a", "a"), ("b", "b")}),
    is_drawn=True,
)
EFFECTS = {"pk": (0.0, 0.1), "up": (2.0, 0.1), "down": (-3.0, 0.1), "same": (0.0, 0.1), "loose": (1.0, 3.0)}


def rows(seeds: int = 8, models: tuple[str, ...] = ("small",), **changes: Any) -> pd.DataFrame:
    """Long rows of a grid in which each sampler has an effect and a scatter."""
    rng = np.random.default_rng(3)
    found = []
    for model in models:
        for name, (effect, noise) in EFFECTS.items():
            for source in "ab":
                for seed in range(seeds):
                    drawn = effect + noise * rng.standard_normal()
                    cell = {"source": source, "model": model, "sampler": name, "seed": seed, "value": 40 + drawn}
                    found += [cell | {"target": target} for target in "abc"]
    rest = {
        "experiment": "main",
        "split": "test",
        "metric": "mAP",
        "protocol": "p",
        "commit": "c0ffee",
        "versions": "v",
    }
    return pd.DataFrame(found).assign(**rest | changes)


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return summarise(rows(), PLAN)


def test_words_and_first_sentence_say_what_is_decided_and_what_is_not(verdict: Verdict) -> None:
    words = {c.sampler: c.verdict for c in verdict.contrasts}
    assert words == {"up": "better", "down": "worse", "same": "equal", "loose": "undecided"}
    proof = verdict.sentences[0]
    assert proof.startswith("Over 16 pairs of trainings up is better than pk by 2.0 points of mAP (95 % interval +")
    assert "; down is worse than pk by 3.0 points of mAP (95 % interval -3." in proof
    assert "; same equals pk within 0.5 points of mAP (95 % interval " in proof
    assert proof.endswith("; undecided: loose against pk.")
    assert proof.count("after Holm") == 2


def test_the_second_sentence_says_what_the_grid_cannot(verdict: Verdict) -> None:
    limits = verdict.sentences[1]
    needed = verdict.contrasts[3].seeds_needed
    assert needed
    assert limits.startswith(
        f"This grid leaves one contrast open, which would need {needed} more seeds per source if differences go on "
        "like these; nothing follows for another pre-trained backbone"
    )
    assert limits.endswith("for other sources and targets, real people included, since these are drawn.")
    real = summarise(rows(), replace(PLAN, is_drawn=False, contrasts=(("up", "pk"),)))
    assert real.sentences[1] == (
        "Beyond this grid nothing follows for another pre-trained backbone, which all trainings share, or for other "
        "sources and targets."
    )
    none = summarise(rows(), replace(PLAN, contrasts=(("loose", "pk"), ("loose", "same"))))
    assert none.sentences[0] == (
        "Over 16 pairs of trainings none of the 2 planned contrasts is decided: loose against pk; loose against same."
    )
    assert (
        "leaves 2 contrasts open, which would need, if differences go on like these: loose against pk "
        in none.sentences[1]
    )


def test_a_grid_that_cannot_reject_says_so(verdict: Verdict) -> None:
    few = summarise(rows(seeds=3), replace(PLAN, seeds=(0, 1, 2)))
    assert {c.verdict for c in few.contrasts} <= {"equal", "undecided"}
    assert few.sentences[1].startswith(
        "This grid cannot call anything better or worse: p ≤ 0.05 needs 4 seeds per source (here the smallest p after "
        "Holm 0.12); "
    )


def test_one_seed_has_no_interval_and_says_why() -> None:
    one = summarise(rows(seeds=1), replace(PLAN, seeds=(0,)))
    assert {(c.low, c.high, c.method, c.why, c.seeds_needed) for c in one.contrasts} == {
        (None, None, None, ONE_SEED, None)
    }
    assert "none of the 4 planned contrasts is decided" in one.sentences[0]


def test_the_method_is_student_s_below_20_pairs_and_the_bootstrap_from_there() -> None:
    plan = replace(PLAN, contrasts=(("up", "pk"),))
    assert summarise(rows(seeds=9), plan).contrasts[0].method == "t"
    assert summarise(rows(seeds=10), plan).contrasts[0].method == "BCa"


def test_pairs_are_the_differences_of_means_over_cross_domain_targets(verdict: Verdict) -> None:
    frame = rows()
    cells = frame[(frame["source"] == "b") & (frame["seed"] == 5) & (frame["target"] != "b")]
    means = cells.groupby("sampler")["value"].mean()
    pair = next(p for p in verdict.contrasts[1].pairs if (p.source, p.seed) == ("b", 5))
    assert pair.difference == pytest.approx(means["down"] - means["pk"])
    assert verdict.averaged == {"a": ("b", "c"), "b": ("a", "c")}
    assert not verdict.is_within


def test_sources_own_targets_are_told_where_there_is_no_other() -> None:
    frame = rows()
    own = frame[frame["source"] == frame["target"]]
    found = summarise(own, PLAN)
    assert (found.is_within, found.averaged) == (True, {"a": ("a",), "b": ("b",)})


def test_the_shared_backbone_missing_pairs_and_mixed_commits_are_named(verdict: Verdict) -> None:
    assert verdict.notes == (BACKBONE,)
    frame = rows()
    frame = frame[~((frame["sampler"] == "up") & (frame["source"] == "b") & (frame["seed"] == 5))]
    frame.loc[frame["sampler"] == "pk", "commit"] = "decaf"
    found = summarise(frame, PLAN)
    assert found.notes[1:] == (
        "up against pk lacks 1 planned pair: b seed 5.",
        "The numbers come from 2 commits: c0ffee (189 rows), decaf (48 rows).",
    )
    assert found.commits == ("c0ffee", "decaf")
    assert found.sentences[0].startswith("Over 15 to 16 pairs of trainings ")


def test_two_protocols_and_a_planned_sampler_without_numbers_are_refused_by_name() -> None:
    frame = rows()
    frame.loc[frame["sampler"] == "up", "protocol"] = "q"
    with pytest.raises(DfgsError, match=r"was scored under 2 protocols: .*sampler .*, seed 0\)"):
        summarise(frame, PLAN)
    with pytest.raises(DfgsError, match=r"no values of sampler 'gz'"):
        summarise(rows(), replace(PLAN, contrasts=(("gz", "pk"),)))


def test_models_are_judged_apart_and_share_holm() -> None:
    found = summarise(rows(models=("small", "vit")), replace(PLAN, contrasts=(("up", "pk"), ("same", "pk"))))
    assert [(c.model, c.sampler) for c in found.contrasts] == [
        *(("small", "up"), ("small", "same")),
        *(("vit", "up"), ("vit", "same")),
    ]
    assert "up is better than pk by 2.0 points of mAP with small (" in found.sentences[0]
    assert [b.model for b in found.blocks] == ["small", "vit"]


def test_the_level_of_datasets_ranks_cross_domain_blocks_or_says_why_not(verdict: Verdict) -> None:
    (blocks,) = verdict.blocks
    assert (blocks.blocks, blocks.why) == (4, "")
    assert min(blocks.mean_ranks, key=blocks.mean_ranks.__getitem__) in ("up", "loose")
    assert [(c.sampler, c.sources) for c in blocks.contrasts] == [(name, 2) for name, _ in PLAN.contrasts]
    frame = rows()
    two = summarise(frame[frame["sampler"].isin(["pk", "up"])], replace(PLAN, contrasts=(("up", "pk"),)))
    assert "2 samplers on 4 source→target blocks; expected at least 3 samplers" in two.blocks[0].why
    assert two.blocks[0].contrasts == ()
