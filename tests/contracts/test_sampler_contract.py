"""What every registered sampler promises (`dfgs.samplers.base.BatchSampler`), on random datasets."""

import inspect
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfgs.errors import DfgsError
from dfgs.samplers import REGISTRY
from dfgs.samplers.base import Labels
from neighbour_oracle import assert_true_neighbours, exact_distances

NAMES = REGISTRY.names()
IDENTITY_SAMPLERS = [name for name in NAMES if REGISTRY.load(name).is_identity_sampler]
EXAMPLES = 200
"""Random datasets for every setting of every sampler."""

SETTINGS = {name: (name, {}) for name in NAMES} | {
    "dfgs, text": ("dfgs", {"graph": "text", "order": "nearest"}),
    "dfgs, both": ("dfgs", {"graph": "both", "neighbours": 3, "skip": 0}),
    "dfgs, no restart": ("dfgs", {"restart": False}),
    "dfgs-released, text": ("dfgs-released", {"graph": "text"}),
    "proximity-walk, all are candidates": ("proximity-walk", {"neighbours": 4}),
    "proximity-walk, few candidates": ("proximity-walk", {"candidates": 6, "neighbours": 2}),
}


@dataclass(frozen=True)
class World:
    """A drawn training set, the features of its identities, and batch settings that it can meet."""

    labels: Labels
    features: dict[str, np.ndarray]
    instances: int
    batch_size: int

    def sampler(self, name, *, seed=0, epoch=0, **arguments):
        """Make a sampler that is ready to iterate."""
        settings = {"batch_size": self.batch_size, "instances": self.instances, "seed": seed} | arguments
        sampler = REGISTRY.load(name)(self.labels, **settings)
        return self.ready(sampler, epoch)

    def ready(self, sampler, epoch):
        """Choose the epoch and give a graph sampler its features."""
        sampler.set_epoch(epoch)
        request = sampler.feature_request(epoch)
        if request is not None:
            chosen = {kind: self.features[kind] for kind in request.kinds}
            sampler.set_features(identities=self.labels.identities, **chosen)
        return sampler


def draw_world(seed, *, identities, most_images, cameras, domains, instances, share, pieces, least_images=1):
    """Draw a world: any pids, shuffled images, look-alike groups, each domain with enough identities for a batch."""
    rng = np.random.default_rng(seed)
    names = rng.choice(np.arange(-5, 3 * identities), size=identities, replace=False)
    counts = rng.integers(least_images, max(most_images, least_images) + 1, size=identities)
    rows = rng.permutation(np.repeat(np.arange(identities), counts))
    order = np.argsort(np.argsort(names))
    labels = Labels(names[rows], rng.integers(0, cameras, size=len(rows)), order[rows] % domains)
    groups = 20 * rng.standard_normal((pieces, 3))
    image = (groups[rng.integers(0, pieces, size=identities)] + rng.standard_normal((identities, 3))).astype(np.float32)
    text = rng.standard_normal((identities, 5)).astype(np.float32)
    number = max(1, min(int(share * (identities // domains)), len(rows) // instances))
    return World(labels, {"image": image, "text": text}, instances, number * instances)


def worlds(least_images=1):
    """Random worlds with at least 14 identities, so that the default of 10 + 2 neighbours can be met."""
    return st.builds(
        draw_world,
        st.integers(0, 2**32),
        identities=st.integers(14, 40),
        most_images=st.integers(1, 11),
        cameras=st.integers(1, 5),
        domains=st.integers(1, 3),
        instances=st.integers(1, 5),
        share=st.floats(0, 1),
        pieces=st.integers(1, 6),
        least_images=st.just(least_images),
    )


def middling_world(least_images=1):
    """A world with room for many different passes."""
    return draw_world(
        5,
        identities=40,
        most_images=9,
        cameras=3,
        domains=2,
        instances=3,
        share=0.3,
        pieces=2,
        least_images=least_images,
    )


def world_for(name):
    """The middling world, with two images of everyone where the sampler asks for them."""
    return middling_world(REGISTRY.load(name).least_images)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_pass_keeps_the_contract_follows_true_neighbours_and_ends_where_it_may(setting):
    name, arguments = SETTINGS[setting]
    sampler_class = REGISTRY.load(name)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(world=worlds(sampler_class.least_images), seed=st.integers(0, 99))
    def check(world, seed):
        sampler = world.sampler(name, seed=seed, **arguments)
        batches = list(sampler)
        assert len(sampler) == len(batches)
        for batch in batches:
            assert type(batch) is list
            assert all(type(index) is int for index in batch)
            assert len(batch) == world.batch_size
            assert all(0 <= index < len(world.labels) for index in batch)
            if sampler.is_identity_sampler:
                check_identities(world, batch)
        check_statistics(world, sampler, batches)
        check_edges(world, sampler)
        if name in ENDS and arguments.get("restart", True):
            ENDS[name](world, batches)

    check()


def check_edges(world, sampler):
    """Edges lead to other identities, each once, and to the ranks that the sampler declares."""
    edges = sampler.current_pass().edges
    assert (edges is None) == (not sampler.graph)
    if edges is None:
        return
    assert edges.dtype == np.int32
    assert len(edges) == len(world.labels.identities)
    assert all(len({row, *others}) == len(others) + 1 for row, others in enumerate(edges.tolist()))
    ranks = sampler.edge_ranks
    if ranks is not None:
        assert edges.shape[1] == len(ranks)
        distances = exact_distances([world.features[kind] for kind in sorted(sampler.graph)])
        assert_true_neighbours(edges, distances, ranks.start)


def visits_of(world, batches):
    """How often each identity is in a batch, (N,)."""
    visits = np.zeros(len(world.labels.identities), dtype=int)
    for batch in batches:
        visits[np.unique(world.labels.rows[batch])] += 1
    return visits


def check_chunks(world, batches, of=slice(None)):
    """No identity is visited more often than it has groups of K images, and fewer than P have any left."""
    left = (world.labels.chunks(world.instances) - visits_of(world, batches))[of]
    assert (left >= 0).all()
    assert (left > 0).sum() < world.batch_size // world.instances


def check_chunks_of_domains(world, batches):
    """The same in each domain."""
    domains = world.labels.identity_domains
    for domain in np.unique(domains):
        check_chunks(world, batches, domains == domain)


def check_everybody(world, batches):
    """Every identity is in a batch."""
    assert (visits_of(world, batches) > 0).all()


def check_all_but_a_few(world, batches):
    """Fewer than P identities are in no batch."""
    assert (visits_of(world, batches) == 0).sum() < world.batch_size // world.instances


def check_images(world, batches):
    """Every image once, but for a last partial batch."""
    drawn = [index for batch in batches for index in batch]
    assert len(set(drawn)) == len(drawn) > len(world.labels) - world.batch_size


ENDS = {
    "random": check_images,
    "pk": check_chunks,
    "pk-camera": check_chunks,
    "pk-domain": check_chunks_of_domains,
    "gs": check_everybody,
    "dfgs": check_chunks,
    "dfgs-permuted": check_chunks,
    "proximity-walk": check_all_but_a_few,
}
"""Where a pass may end; the released samplers promise nothing, nor does a walk without restart."""


def check_identities(world, batch):
    """P different identities with K images each, an image twice only where an identity has too few."""
    drawn = {}
    for index in batch:
        drawn.setdefault(int(world.labels.pids[index]), []).append(index)
    assert len(drawn) == world.batch_size // world.instances
    for pid, images in drawn.items():
        owned = int(np.sum(world.labels.pids == pid))
        assert len(images) == world.instances
        if owned >= world.instances:
            assert len(set(images)) == world.instances


def check_statistics(world, sampler, batches):
    """The counts of the pass, recounted one by one."""
    drawn = [index for batch in batches for index in batch]
    served = {int(world.labels.pids[index]) for index in drawn}
    statistics = sampler.statistics
    assert statistics.batches == len(batches)
    assert statistics.identities_served == len(served)
    assert statistics.unserved == len(set(world.labels.pids.tolist()) - served)
    assert statistics.images_served == len(set(drawn))
    assert statistics.images_repeated == len(drawn) - len(set(drawn))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_and_epoch_give_the_same_batches_and_others_differ(name):
    world = world_for(name)
    first = list(world.sampler(name, seed=3, epoch=7))
    assert first
    assert list(world.sampler(name, seed=3, epoch=7)) == first
    assert list(world.sampler(name, seed=3, epoch=8)) != first
    assert list(world.sampler(name, seed=4, epoch=7)) != first


@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_comes_back_to_the_same_batches_after_other_epochs(name):
    world = world_for(name)
    sampler = world.sampler(name, epoch=2)
    second = list(sampler)
    list(world.ready(sampler, 5))
    assert list(world.ready(sampler, 2)) == second
    assert list(sampler) == second


@pytest.mark.parametrize("name", NAMES)
def test_global_random_state_is_neither_read_nor_changed(name):
    world = world_for(name)
    passes = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        passes.append(list(world.sampler(name)))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert passes[0] == passes[1]


@pytest.mark.parametrize("name", NAMES)
def test_identities_with_one_image_are_served_or_refused_by_name(name):
    labels = Labels(np.arange(30), np.zeros(30, dtype=int), np.zeros(30, dtype=int))
    features = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    world = World(labels, {"image": features, "text": features}, instances=4, batch_size=20)
    if REGISTRY.load(name).least_images > 1:
        with pytest.raises(
            DfgsError, match=r"pid 0 has 1 image, 30 such identities in all; this sampler needs at least 2"
        ):
            world.sampler(name)
    else:
        sampler = world.sampler(name)
        assert all(len(batch) == 20 for batch in sampler)
        # Up to the last partial batch: 5 identities, or 20 images.
        assert sampler.statistics.unserved < (5 if sampler.is_identity_sampler else 20)


def plain_world(counts, *, cameras=1, instances=2, number=4, apart=0):
    """A world of one domain whose identity r has `counts[r]` images; features in two groups that are `apart`."""
    rows = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(1)
    features = rng.standard_normal((len(counts), 4)) + apart * (np.arange(len(counts)) % 2)[:, None]
    labels = Labels(rows + 1, rng.integers(0, cameras, size=len(rows)), np.zeros_like(rows))
    both = dict.fromkeys(("image", "text"), features.astype(np.float32))
    return World(labels, both, instances, number * instances)


ALONE = {
    "dfgs": r"neighbours=10 \+ skip=2 = 12 exceeds the 0 other identities .* give more identities",
    "dfgs-permuted": r"neighbours=10 \+ skip=2 = 12 exceeds the 0 other identities .* give more identities",
    "dfgs-released": "graph=image needs 10 other identities, the training set has 0",
    "proximity-walk": "neighbours=1 exceeds the 0 candidates .* 0 other identities; give more identities",
}
"""Samplers that cannot do with one identity, and what they say."""


@pytest.mark.parametrize("name", NAMES)
def test_one_identity_alone_is_served_or_refused_with_both_numbers(name):
    world = plain_world([7], number=1)
    if name in ALONE:
        with pytest.raises(DfgsError, match=ALONE[name]) as refusal:
            world.sampler(name)
        assert "\n" not in str(refusal.value)
    else:
        sampler = world.sampler(name)
        assert sampler.statistics.identities_served == 1
        assert all(len(batch) == 2 for batch in sampler)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "world",
    [
        pytest.param(plain_world([2, 3, 4, 9] * 5), id="one camera"),
        pytest.param(plain_world([2, 3] * 10, cameras=3, instances=6), id="K above every identity's images"),
        pytest.param(plain_world([4] * 30, apart=1000), id="isolated clusters"),
    ],
)
def test_awkward_sets_are_served_in_full_batches(name, world):
    sampler = world.sampler(name)
    batches = list(sampler)
    assert batches
    for batch in batches:
        if sampler.is_identity_sampler:
            check_identities(world, batch)
    check_statistics(world, sampler, batches)


def row_3_becomes(value):
    """A fault of the features' fourth row."""
    return lambda pids, rows: (pids, np.where(np.arange(len(rows))[:, None] == 3, value, rows))


@pytest.mark.parametrize("name", [name for name in IDENTITY_SAMPLERS if REGISTRY.load(name).graph])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (row_3_becomes(np.nan), r"row 3 \(pid 4\) is NaN"),
        (row_3_becomes(-np.inf), r"row 3 \(pid 4\) is NaN, infinite"),
        (row_3_becomes(0), r"row 3 \(pid 4\) is all zero"),
        (lambda pids, rows: (pids[::-1], rows), "row 0 is pid 20, expected pid 1"),
        (lambda pids, rows: (pids[:-1], rows[:-1]), "rows for 19 identities; the training set has 20"),
        (lambda pids, rows: (pids, rows[:-1]), r"has shape \(19, 4\); give one row for each of 20 identities"),
    ],
    ids=["NaN", "infinite", "zero", "order", "number of identities", "number of rows"],
)
def test_features_that_cannot_be_right_are_refused_in_one_line_by_row_and_pid(name, spoil, message):
    world = plain_world([4] * 20)
    sampler = REGISTRY.load(name)(world.labels, batch_size=8, instances=2, seed=0)
    identities, rows = spoil(world.labels.identities, world.features["image"])
    with pytest.raises(DfgsError, match=message) as refusal:
        sampler.set_features(identities=identities, **dict.fromkeys(sampler.graph, rows))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", IDENTITY_SAMPLERS)
def test_impossible_batch_settings_are_refused_with_both_numbers(name):
    world = world_for(name)
    with pytest.raises(DfgsError, match=r"batch_size=62 is not a multiple of instances=4; choose 60 or 64"):
        world.sampler(name, batch_size=62, instances=4)
    with pytest.raises(DfgsError, match=r"needs 41 identities, the training set has 40; .* at most 80"):
        world.sampler(name, batch_size=82, instances=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("argument", ["batch_size", "instances", "seed"])
def test_numbers_that_are_no_counts_are_refused_by_name(name, argument):
    for value in (-1, 1.5, True, "4"):
        with pytest.raises(DfgsError, match=f"{argument}={value!r} must be a whole number"):
            world_for(name).sampler(name, **{argument: value})


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_sampler_asks_for_features_and_stops_without_them_and_others_refuse_them(name):
    world = world_for(name)
    sampler = REGISTRY.load(name)(world.labels, batch_size=world.batch_size, instances=world.instances, seed=0)
    request = sampler.feature_request(0)
    if request is None:
        assert not sampler.graph
        with pytest.raises(DfgsError, match="uses no features"):
            sampler.set_features(identities=world.labels.identities, image=world.features["image"])
    else:
        assert set(request.kinds) == sampler.graph
        with pytest.raises(DfgsError, match="features; call set_features"):
            next(iter(sampler))


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_names_source_and_cost_and_every_own_argument(name):
    sampler_class = REGISTRY.load(name)
    text = inspect.getdoc(sampler_class)
    assert "Source" in text
    assert "Cost" in text
    own = set(inspect.signature(sampler_class).parameters) - {"labels", "batch_size", "instances", "seed"}
    if "same arguments" not in text:
        assert all(f"`{argument}`" in text for argument in own)


@pytest.mark.parametrize("name", NAMES)
def test_a_data_loader_takes_the_sampler_as_it_is(name):
    data = pytest.importorskip("torch.utils.data")
    world = world_for(name)
    sampler = world.sampler(name)
    loader = data.DataLoader(range(len(world.labels)), batch_sampler=sampler)
    assert len(loader) == len(sampler)
    assert [batch.tolist() for batch in loader] == list(sampler)
