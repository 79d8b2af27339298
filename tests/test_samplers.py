"""What each sampler does beyond the common contract, against slow obvious versions."""

import copy
import hashlib
import json
import random
from itertools import chain, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfgs.errors import DfgsError
from dfgs.samplers import REGISTRY, proximity_walk
from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers._neighbours import nearest
from dfgs.samplers._uniform import draw_uniform
from dfgs.samplers._walk import walk
from dfgs.samplers.base import Labels
from dfgs.samplers.proximity_walk import draw_candidates, nearest_candidates, walk_with_returns
from neighbour_oracle import assert_true_neighbours, exact_distances


def make_labels(counts, *, cameras=3, seed=0):
    """Shuffled images: identity r (pid 10 r + 5) has `counts[r]`, cameras at random, two domains in turn."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return Labels(10 * rows + 5, rng.integers(0, cameras, size=len(rows)), rows % 2)


def make_sampler(name, labels, features, *, batch_size=8, instances=2, seed=0, **arguments):
    """Make a sampler of the first pass, with features of every kind that it asks for."""
    arguments = {"batch_size": batch_size, "instances": instances, "seed": seed} | arguments
    sampler = REGISTRY.load(name)(labels, **arguments)
    request = sampler.feature_request(0)
    if request is not None:
        given = features if isinstance(features, dict) else dict.fromkeys(request.kinds, features)
        sampler.set_features(identities=labels.identities, **{kind: given[kind] for kind in request.kinds})
    return sampler


def gaussian(number, width=4, seed=0):
    """Independent features, float32 (number, width)."""
    return np.random.default_rng(seed).standard_normal((number, width)).astype(np.float32)


def in_clusters(sizes, seed=0):
    """Features of look-alike groups that are far apart."""
    centres = 1000 * np.eye(len(sizes), dtype=np.float32)
    return np.repeat(centres, sizes, axis=0) + gaussian(sum(sizes), len(sizes), seed)


def identities_of(labels, batch):
    """Rows of the identities of a batch, in order of appearance."""
    return list(dict.fromkeys(labels.rows[batch].tolist()))


def visits_of(labels, sampler):
    """How often each identity is in a batch of the pass, (N,)."""
    visits = np.zeros(len(labels.identities), dtype=int)
    for batch in sampler:
        visits[identities_of(labels, batch)] += 1
    return visits


class TestLabels:
    def test_the_images_of_an_identity_lie_between_its_offsets(self):
        labels = Labels([7, -3, 7, 7], [0, 1, 0, 2], [0, 0, 0, 0])
        assert labels.identities.tolist() == [-3, 7]
        assert labels.order.tolist() == [1, 0, 2, 3]
        assert labels.offsets.tolist() == [0, 1, 4]
        assert labels.counts.tolist() == [1, 3]
        assert labels.rows.tolist() == [1, 0, 1, 1]

    def test_a_pass_has_a_chunk_for_every_full_group_and_one_for_few_images(self):
        assert make_labels([1, 3, 4, 9]).chunks(4).tolist() == [1, 1, 1, 2]

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (([], [], []), "no training images"),
            (([1, 2], [0], [0, 0]), r"pids, camids and domains have \(2, 1, 2\) entries"),
            (([1.5], [0], [0]), "pids is float64"),
            (([1], [[0]], [0]), r"camids is int64 of shape \(1, 1\)"),
        ],
    )
    def test_columns_that_are_no_labels_are_refused(self, columns, message):
        with pytest.raises(DfgsError, match=message):
            Labels(*columns)

    def test_an_identity_in_two_domains_is_refused_by_pid(self):
        with pytest.raises(DfgsError, match="pid 4 has images in domains 0 and 2"):
            _ = Labels([3, 4, 4], [0, 0, 0], [0, 0, 2]).identity_domains

    @pytest.mark.parametrize("order", ["shuffled", "by_camera"])
    def test_an_image_order_keeps_identities_together_and_changes_with_the_draw(self, order):
        labels = make_labels([5, 1, 12, 3])
        drawn = [getattr(labels, order)(np.random.default_rng(seed)) for seed in range(3)]
        for images in drawn:
            for row in range(4):
                own = images[labels.offsets[row] : labels.offsets[row + 1]]
                assert sorted(own) == np.flatnonzero(labels.rows == row).tolist()
        assert drawn[0].tolist() != drawn[1].tolist()

    def test_every_order_of_an_identitys_images_is_equally_likely(self):
        labels, rng = make_labels([3, 2]), np.random.default_rng(0)
        seen = [tuple(labels.shuffled(rng)[:3]) for _ in range(6000)]
        assert all(abs(seen.count(order) - 1000) < 150 for order in set(seen))
        assert len(set(seen)) == 6

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        counts=st.lists(st.integers(1, 12), min_size=1, max_size=8), cameras=st.integers(1, 5), seed=st.integers(0, 99)
    )
    def test_cameras_take_turns_and_keep_their_order(self, counts, cameras, seed):
        labels = make_labels(counts, cameras=cameras, seed=seed)
        images = labels.by_camera(np.random.default_rng(seed))
        for row in range(len(counts)):
            dealt = labels.camids[images[labels.offsets[row] : labels.offsets[row + 1]]].tolist()
            left = {camid: dealt.count(camid) for camid in dealt}
            expected = []
            while left:
                expected += list(left)
                left = {camid: number - 1 for camid, number in left.items() if number > 1}
            assert dealt == expected

    def test_the_first_camera_is_drawn_anew(self):
        labels = Labels([1] * 4, [0, 1, 2, 3], [0] * 4)
        first = [labels.camids[labels.by_camera(np.random.default_rng(seed))[0]] for seed in range(400)]
        assert all(60 < first.count(camid) < 140 for camid in range(4))


class TestNeighbours:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        number=st.integers(2, 60),
        width=st.integers(1, 6),
        share=st.floats(0, 1),
        block=st.integers(2, 70),
        kinds=st.integers(1, 2),
        offset=st.sampled_from([0, 100]),
        seed=st.integers(0, 999),
    )
    def test_neighbours_are_those_of_brute_force(self, number, width, share, block, kinds, offset, seed):
        features = [gaussian(number, width + kind, seed + kind) + np.float32(offset) for kind in range(kinds)]
        table = nearest(features, 1 + int(share * (number - 2)), block=block)
        distances = exact_distances(features)
        assert_true_neighbours(table, distances)
        ordered = np.take_along_axis(distances, table.astype(int), axis=1)
        assert (np.diff(ordered, axis=1) > -1e-4).all()

    @pytest.mark.parametrize("block", [7, 64, 2048])
    def test_equal_distances_go_by_row_whatever_the_blocks(self, block):
        half = np.random.default_rng(0).integers(-1, 2, size=(75, 3)).astype(np.float32)
        grid = np.concatenate([half, -half])  # centre 0, so that float32 distances are exact
        expected = np.argsort(exact_distances([grid]), axis=1, kind="stable")[:, :12]
        assert nearest([grid], 12, block=block).tolist() == expected.tolist()

    def test_identical_features_still_give_other_rows(self):
        assert nearest([np.ones((4, 3), dtype=np.float32)], 3).tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]

    def test_summed_distances_weigh_the_kinds_alike_whatever_their_units(self):
        image, text = gaussian(40, 5), gaussian(40, 7, seed=1)
        assert nearest([1000 * image, text], 6).tolist() == nearest([image, text], 6).tolist()
        assert nearest([image, text], 6).tolist() != nearest([image], 6).tolist()


class TestUniformDraws:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(chunks=st.lists(st.integers(1, 6), min_size=1, max_size=20), share=st.floats(0, 1), seed=st.integers(0, 99))
    def test_a_batch_has_different_rows_and_the_draw_ends_when_too_few_are_left(self, chunks, share, seed):
        number = max(1, int(share * len(chunks)))
        drawn = draw_uniform(np.array(chunks), number, np.random.default_rng(seed))
        assert all(len(set(batch)) == number for batch in drawn.tolist())
        left = np.array(chunks) - np.bincount(drawn.ravel(), minlength=len(chunks))
        assert (left >= 0).all()
        assert (left > 0).sum() < number

    def test_every_pair_is_equally_likely(self):
        rng = np.random.default_rng(0)
        pairs = [tuple(sorted(draw_uniform(np.ones(4, dtype=int), 2, rng)[0].tolist())) for _ in range(6000)]
        assert len(set(pairs)) == 6
        assert all(abs(pairs.count(pair) - 1000) < 150 for pair in set(pairs))


def slow_walk(edges, chunks, starts, number, restart=True):
    """The walk in plain lists, filtering pushes and searching the batch, as the algorithm is written."""
    left, stack, batches, fresh, restarts = list(chunks), [], [], [], 0
    while sum(count > 0 for count in left) >= number:
        batch, waiting = [], []
        while len(batch) < number:
            if stack:
                row = stack.pop()
            elif not restart and (batch or batches):
                return batches, restarts
            else:
                while True:
                    fresh = fresh or [row for row in starts if left[row]]
                    row = fresh.pop(0)
                    if left[row] and row not in batch:
                        break
                restarts += bool(batch or batches)
            if not left[row]:
                continue
            if row in batch:
                if row not in waiting:
                    waiting.append(row)
                continue
            batch.append(row)
            left[row] -= 1
            stack += [other for other in reversed(edges[row]) if left[other]]
        stack = waiting[::-1] + stack
        batches.append(batch)
    return batches, restarts


class TestWalk:
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(
        number=st.integers(2, 30),
        degree=st.integers(1, 6),
        most=st.integers(1, 5),
        share=st.floats(0, 1),
        pieces=st.integers(1, 4),
        restart=st.booleans(),
        seed=st.integers(0, 999),
    )
    def test_the_walk_is_that_of_the_slow_version(self, number, degree, most, share, pieces, restart, seed):
        rng = np.random.default_rng(seed)
        piece = np.sort(rng.integers(0, pieces, size=number))
        edges = np.array([rng.choice(np.flatnonzero(piece == own), size=degree) for own in piece], dtype=np.int32)
        chunks, starts = rng.integers(1, most + 1, size=number), rng.permutation(number)
        size = max(1, int(share * number))
        visits, restarts = walk(edges, chunks, starts, size, restart=restart)
        slow, slow_restarts = slow_walk(edges.tolist(), chunks.tolist(), starts.tolist(), size, restart)
        assert visits.tolist() == slow
        assert restarts == slow_restarts


class TestPk:
    def test_images_beyond_the_last_full_group_wait_for_another_pass(self):
        labels = make_labels([7] * 12)
        sampler = make_sampler("pk", labels, None, batch_size=12, instances=3)
        assert sampler.statistics.images_served == 12 * 6
        seen = set()
        for epoch in range(20):
            sampler.set_epoch(epoch)
            seen.update(index for batch in sampler for index in batch)
        assert seen == set(range(12 * 7))

    def test_an_identity_with_too_few_images_serves_each_before_any_repeat(self):
        labels = make_labels([3, 1, 2])
        (batch,) = list(make_sampler("pk", labels, None, batch_size=12, instances=4))
        drawn = [batch.count(index) for index in batch]
        assert sorted(len({i for i in batch if labels.rows[i] == row}) for row in range(3)) == [1, 2, 3]
        assert max(drawn) == 4


class TestPkCamera:
    def test_the_images_of_an_identity_come_from_as_many_cameras_as_they_can(self):
        labels = Labels(np.repeat(np.arange(10), 12), np.tile(np.arange(12) // 3, 10), np.zeros(120, dtype=int))
        for batch in make_sampler("pk-camera", labels, None, batch_size=16, instances=4):
            for row in identities_of(labels, batch):
                own = [index for index in batch if labels.rows[index] == row]
                assert len(set(labels.camids[own])) == 4

    def test_pk_does_not_regard_cameras(self):
        labels = Labels(np.repeat(np.arange(10), 12), np.tile(np.arange(12) // 3, 10), np.zeros(120, dtype=int))
        batches = np.array(list(make_sampler("pk", labels, None, batch_size=16, instances=4)))
        kinds = [len(set(group)) for group in labels.camids[batches].reshape(-1, 4).tolist()]
        assert min(kinds) < 4


class TestPkDomain:
    def test_every_batch_is_of_one_domain_and_each_domain_is_used_up(self):
        labels = make_labels([6] * 23)
        sampler = make_sampler("pk-domain", labels, None, batch_size=8, instances=2)
        seen = [set(labels.domains[batch].tolist()) for batch in sampler]
        assert all(len(domains) == 1 for domains in seen)
        left = labels.chunks(2) - visits_of(labels, sampler)
        assert all((left[labels.identity_domains == domain] > 0).sum() < 4 for domain in (0, 1))

    def test_the_domains_batches_are_mixed(self):
        labels = make_labels([6] * 40)
        order = [int(labels.domains[batch[0]]) for batch in make_sampler("pk-domain", labels, None)]
        assert sum(a != b for a, b in pairwise(order)) > 5

    def test_a_domain_with_too_few_identities_is_refused_with_both_numbers(self):
        labels = Labels([1, 2, 3, 4, 5], [0] * 5, [0, 0, 0, 9, 9])
        with pytest.raises(DfgsError, match=r"needs 3 identities of one domain, domain 9 has 2; .* at most 4"):
            make_sampler("pk-domain", labels, None, batch_size=6, instances=2)


class TestGs:
    def test_every_identity_is_once_the_anchor_of_its_nearest(self):
        labels, features = make_labels([5] * 40), gaussian(40)
        sampler = make_sampler("gs", labels, features)
        distances = exact_distances([features])
        anchors = []
        for batch in sampler:
            anchor, *others = identities_of(labels, batch)
            anchors.append(anchor)
            assert others == np.argsort(distances[anchor])[:3].tolist()
        assert sorted(anchors) == list(range(40))
        assert anchors != sorted(anchors)

    def test_the_images_of_an_identity_are_used_evenly(self):
        labels = make_labels([5, 3, 7, 2, 1, 4])
        batches = list(make_sampler("gs", labels, gaussian(6), batch_size=10, instances=2))
        uses = np.bincount(np.concatenate(batches), minlength=len(labels))
        for row in range(6):
            own = uses[labels.rows == row]
            assert own.max() - own.min() <= 1


class TestDfgs:
    def test_edges_are_the_neighbours_after_the_skipped_ones(self):
        labels, features = make_labels([4] * 50), {"image": gaussian(50), "text": gaussian(50, 6, seed=1)}
        for graph, kinds in {"image": ["image"], "text": ["text"], "both": ["image", "text"]}.items():
            sampler = make_sampler("dfgs", labels, features, graph=graph, neighbours=5, skip=3)
            distances = exact_distances([features[kind] for kind in kinds])
            assert_true_neighbours(sampler.edges(np.random.default_rng(0)), distances, first=3)

    def test_neighbours_are_shuffled_for_each_pass_or_visited_nearest_first(self):
        labels, features = make_labels([4] * 50), gaussian(50)
        near = np.argsort(exact_distances([features]), axis=1)[:, 2:12]
        nearest_first = make_sampler("dfgs", labels, features, order="nearest")
        assert nearest_first.edges(np.random.default_rng(0)).tolist() == near.tolist()
        shuffled = make_sampler("dfgs", labels, features)
        drawn = [shuffled.edges(np.random.default_rng(seed)).tolist() for seed in range(2)]
        assert drawn[0] != drawn[1] != near.tolist()

    def test_the_walk_goes_from_an_identity_to_its_nearest_neighbour(self):
        labels, features = make_labels([1] * 40), gaussian(40)
        sampler = make_sampler(
            "dfgs", labels, features, batch_size=8, instances=1, neighbours=4, skip=0, order="nearest"
        )
        first, second = identities_of(labels, next(iter(sampler)))[:2]
        assert second == np.argsort(exact_distances([features])[first])[0]

    def test_with_restart_every_isolated_cluster_is_served_and_without_it_one(self):
        labels, features = make_labels([4] * 60), in_clusters([15] * 4)
        arguments = {"neighbours": 5, "skip": 0, "batch_size": 8, "instances": 2}
        with_restart = make_sampler("dfgs", labels, features, **arguments).statistics
        without = make_sampler("dfgs", labels, features, restart=False, **arguments)
        assert with_restart.unserved < 4
        assert with_restart.restarts >= 3
        assert without.statistics.restarts == 0
        assert {row // 15 for batch in without for row in identities_of(labels, batch)} in [{0}, {1}, {2}, {3}]

    def test_images_are_dealt_camera_by_camera(self):
        labels = Labels(np.repeat(np.arange(20), 8), np.tile(np.arange(8) // 2, 20), np.zeros(160, dtype=int))
        for batch in make_sampler("dfgs", labels, gaussian(20), batch_size=16, instances=4):
            assert all(len(set(group)) == 4 for group in labels.camids[batch].reshape(-1, 4).tolist())

    def test_batches_of_look_alikes_are_tighter_than_permuted_and_random_ones(self):
        labels, features = make_labels([4] * 400), gaussian(400, 3)
        spread = {}
        for name in ("dfgs", "dfgs-permuted", "pk"):
            batches = make_sampler(name, labels, features, batch_size=32, instances=4)
            rows = [features[identities_of(labels, batch)] for batch in batches]
            spread[name] = np.mean([exact_distances([own]).min(axis=1).mean() for own in rows])
        assert spread["dfgs"] < 0.8 * spread["pk"]
        assert abs(spread["dfgs-permuted"] / spread["pk"] - 1) < 0.05

    def test_more_neighbours_than_other_identities_are_refused_with_both_numbers(self):
        with pytest.raises(DfgsError, match=r"neighbours=10 \+ skip=2 = 12 exceeds the 11 other identities"):
            make_sampler("dfgs", make_labels([2] * 12), None)
        assert make_sampler("dfgs", make_labels([2] * 13), gaussian(13)).edges(np.random.default_rng(0)).shape == (
            13,
            10,
        )

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"graph": "imge"}, r"graph='imge' is not one of image, text, both \(did you mean 'image'\?\)"),
            ({"order": "random"}, "order='random' is not one of shuffled, nearest"),
            ({"representation": "median"}, "representation='median' is not one of one, mean"),
            ({"neighbours": 0}, "neighbours=0 must be a whole number of at least 1"),
            ({"skip": -1}, "skip=-1 must be a whole number of at least 0"),
        ],
    )
    def test_an_impossible_argument_is_refused_by_name(self, argument, message):
        with pytest.raises(DfgsError, match=message):
            make_sampler("dfgs", make_labels([2] * 30), None, **argument)


class TestDfgsPermuted:
    def test_the_graph_is_the_right_one_with_other_names(self):
        labels, features = make_labels([4] * 60), gaussian(60)
        right = make_sampler("dfgs", labels, features, order="nearest").edges(np.random.default_rng(0))
        permuted = make_sampler("dfgs-permuted", labels, features, order="nearest").edges(np.random.default_rng(0))
        names = np.random.default_rng(0).permutation(60)
        assert permuted[names].tolist() == names[right].tolist()
        kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(right.tolist(), permuted.tolist(), strict=True)])
        assert kept < 0.35


def slow_nearest_candidates(features, candidates, count):
    """The nearest of each row's candidates, by float64 distances one after the other."""
    found = []
    for row, others in enumerate(candidates.tolist()):
        near = [(np.linalg.norm(features[row].astype(float) - features[other]), other) for other in others]
        found.append([other for _, other in sorted(near)[:count]])
    return found


class TestProximityWalk:
    def test_candidates_are_different_others_and_any_of_them_alike(self):
        owners = np.repeat([0, 3, 8], 3000)
        drawn = draw_candidates(owners, 9, 4, np.random.default_rng(0))
        assert all(len(set(others)) == 4 and owner not in others for owner, others in zip(owners, drawn, strict=True))
        for owner in (0, 3, 8):
            shares = np.bincount(drawn[owners == owner].ravel(), minlength=9) / 3000
            assert all(abs(shares[other] - 0.5) < 0.05 for other in range(9) if other != owner)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        number=st.integers(3, 40),
        width=st.integers(1, 6),
        share=st.floats(0, 1),
        ratio=st.floats(0, 1),
        seed=st.integers(0, 999),
    )
    def test_edges_lead_to_the_nearest_of_the_candidates(self, number, width, share, ratio, seed):
        features, count = gaussian(number, width, seed), 1 + int(share * (number - 2))
        candidates = draw_candidates(np.arange(number), number, count, np.random.default_rng(seed))
        edges = nearest_candidates(features, np.arange(number), candidates, 1 + int(ratio * (count - 1)))
        assert edges.tolist() == slow_nearest_candidates(features, candidates, edges.shape[1])

    def test_a_pass_goes_along_the_nearest_of_its_own_candidates_whatever_the_blocks(self, monkeypatch):
        labels, features = make_labels([4] * 60), gaussian(60) + np.float32(100)
        passes = []
        for gathered in (2**24, 2000):
            monkeypatch.setattr(proximity_walk, "GATHERED", gathered)
            sampler = make_sampler("proximity-walk", labels, features, candidates=30, neighbours=5)
            passes.append(sampler.current_pass())
        assert passes[0].images.tolist() == passes[1].images.tolist()
        candidates = draw_candidates(np.arange(60), 60, 30, np.random.default_rng([0, 0]))
        assert passes[0].edges.tolist() == slow_nearest_candidates(features, candidates, 5)
        assert sampler.edge_ranks is None
        assert sampler.reach == 10  # what an audit counts as true: the 5 nearest of 30 are about the 10 nearest of 59
        assert 0 < sampler.graph_seconds <= sampler.draw_seconds

    def test_equal_distances_go_by_row(self):
        candidates = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]], dtype=np.int32)
        edges = nearest_candidates(np.zeros((4, 2), dtype=np.float32), np.arange(4), candidates, 2)
        assert edges.tolist() == candidates[:, :2].tolist()

    def test_where_all_are_candidates_the_edges_are_those_of_the_nearest(self):
        sampler = make_sampler("proximity-walk", make_labels([4] * 60), gaussian(60))
        assert sampler.edge_ranks == range(5)  # a tenth of 59
        assert sampler.current_pass().edges.tolist() == nearest([gaussian(60)], 5).tolist()

    def test_a_walk_goes_along_edges_or_back_to_its_start(self):
        # On a ring with one edge each, a walk can only meet the start's successors, in their order.
        ring = (np.arange(50, dtype=np.int32)[:, None] + 1) % 50
        rows, restarts = walk_with_returns(ring, 5, 0.3, np.random.default_rng(0))
        assert restarts == 0
        assert all(np.array_equal(batch, (batch[0] + np.arange(5)) % 50) for batch in rows)

    def test_every_batch_begins_at_an_identity_that_none_has_held(self):
        edges = nearest([gaussian(200)], 8)
        rows, _ = walk_with_returns(edges, 8, 0.2, np.random.default_rng(1))
        held = set()
        for batch in rows.tolist():
            assert batch[0] not in held
            held |= set(batch)
        assert len(held) > 200 - 8

    def test_more_returns_keep_a_batch_nearer_to_its_start(self):
        features, spread = gaussian(600, 2), {}
        for back in (0.0, 0.5):
            rows, restarts = walk_with_returns(nearest([features], 8), 12, back, np.random.default_rng(0))
            assert restarts == 0
            spread[back] = np.linalg.norm(features[rows] - features[rows[:, :1]], axis=2).mean()
        assert spread[0.5] < 0.8 * spread[0.0]

    def test_the_probability_of_a_return_falls_with_the_passes_down_to_the_least(self, monkeypatch):
        seen = []

        def spy(edges, number, back, rng):
            seen.append(back)
            return walk_with_returns(edges, number, back, rng)

        monkeypatch.setattr(proximity_walk, "walk_with_returns", spy)
        sampler = make_sampler("proximity-walk", make_labels([4] * 30), gaussian(30))
        for epoch in (0, 1, 5, 8, 100):
            sampler.set_epoch(epoch)
            assert len(sampler)
        assert np.allclose(seen, [0.2, 0.18, 0.1, 0.05, 0.05])

    def test_isolated_clusters_smaller_than_a_batch_are_left_by_restarts(self):
        labels, features = make_labels([4] * 60), in_clusters([3] * 20)
        sampler = make_sampler("proximity-walk", labels, features, neighbours=2)
        assert sampler.statistics.restarts >= len(sampler)
        assert sampler.statistics.unserved < 4

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            (
                {"neighbours": 30},
                r"neighbours=30 exceeds the 29 candidates .* 29 other identities",
            ),
            ({"neighbours": 9, "candidates": 8}, "neighbours=9 exceeds the 8 candidates"),
            ({"candidates": 0}, "candidates=0 must be a whole number of at least 1"),
            ({"return_probability": 1.2}, "return_probability=1.2 must be a number from 0 to 1"),
            ({"least_return": "often"}, "least_return='often' must be a number"),
            ({"return_decay": -0.1}, "return_decay=-0.1 must be a number"),
        ],
    )
    def test_an_impossible_argument_is_refused_by_name(self, argument, message):
        with pytest.raises(DfgsError, match=message):
            make_sampler("proximity-walk", make_labels([2] * 30), None, **argument)


class TestFeatures:
    labels = make_labels([3, 1, 4, 2, 2, 5])

    def sampler(self, **arguments):
        arguments = {"neighbours": 2, "skip": 1, "batch_size": 4, "instances": 2, "seed": 0} | arguments
        return REGISTRY.load("dfgs")(self.labels, **arguments)

    def test_one_random_image_of_each_identity_is_asked_for_and_another_in_the_next_epoch(self):
        sampler = self.sampler()
        requests = [sampler.feature_request(epoch) for epoch in range(12)]
        for request in requests:
            assert request.kinds == ("image",)
            assert self.labels.pids[request.images].tolist() == self.labels.identities.tolist()
        assert len({tuple(request.images.tolist()) for request in requests}) > 6
        assert sampler.feature_request(3).images.tolist() == requests[3].images.tolist()

    def test_for_means_all_images_are_asked_for_and_averaged_over_their_identity(self):
        request = self.sampler(representation="mean").feature_request(0)
        assert sorted(request.images.tolist()) == list(range(17))
        embedded = gaussian(17)
        pooled = request.pool(embedded[request.images])
        slow = [embedded[self.labels.rows == row].mean(axis=0) for row in range(6)]
        assert np.allclose(pooled, slow, atol=1e-6)

    def test_pooling_one_image_each_changes_nothing(self):
        request, features = self.sampler().feature_request(0), gaussian(6)
        assert request.pool(features).tolist() == features.tolist()
        with pytest.raises(DfgsError, match="5 rows for the 6 images of the request"):
            request.pool(features[:5])

    def test_a_text_graph_asks_for_no_image(self):
        request = self.sampler(graph="text").feature_request(0)
        assert request.kinds == ("text",)
        assert request.images is None
        assert self.sampler(graph="both").feature_request(0).kinds == ("image", "text")

    def test_features_stay_until_others_are_set(self):
        sampler = self.sampler()
        sampler.set_features(identities=self.labels.identities, image=gaussian(6))
        first = list(sampler)
        sampler.set_epoch(1)
        assert len(list(sampler)) == len(first)
        sampler.set_epoch(0)
        sampler.set_features(identities=self.labels.identities, image=gaussian(6, seed=9))
        assert list(sampler) != first

    def test_other_features_in_the_same_epoch_give_other_batches(self):
        sampler = self.sampler()
        passes = []
        for seed in (1, 2, 1):
            sampler.set_features(identities=self.labels.identities, image=gaussian(6, seed=seed))
            passes.append(list(sampler))
        assert passes[0] != passes[1]
        assert passes[0] == passes[2]

    @pytest.mark.parametrize(
        ("identities", "message"),
        [
            ([5, 15, 25, 35, 45], "rows for 5 identities; the training set has 6"),
            ([5, 25, 15, 35, 45, 55], "row 1 is pid 25, expected pid 15; give the rows in the order"),
            ([0, 1, 2, 3, 4, 5], "row 0 is pid 0, expected pid 5"),
        ],
    )
    def test_rows_of_other_identities_or_in_another_order_are_refused(self, identities, message):
        with pytest.raises(DfgsError, match=message):
            self.sampler().set_features(identities=np.array(identities), image=gaussian(6))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.nan, r"image row 3 \(pid 35\) is NaN, infinite or too large, 1 such rows in all"),
            (np.inf, r"image row 3 \(pid 35\) is NaN, infinite"),
            (1e30, r"image row 3 \(pid 35\) is NaN, infinite or too large"),
            (0, r"image row 3 \(pid 35\) is all zero, 1 such rows"),
        ],
    )
    def test_rows_that_are_no_features_are_refused_by_row_and_pid(self, value, message):
        features = gaussian(6)
        features[3] = value
        with pytest.raises(DfgsError, match=message):
            self.sampler().set_features(identities=self.labels.identities, image=features)

    @pytest.mark.parametrize("shape", [(5, 4), (6,), (6, 0), (6, 2, 2)])
    def test_a_wrong_shape_is_refused(self, shape):
        with pytest.raises(DfgsError, match="give one row for each of 6 identities"):
            self.sampler().set_features(identities=self.labels.identities, image=np.ones(shape))

    def test_the_wrong_kind_is_refused(self):
        with pytest.raises(DfgsError, match="got text; the sampler's graph needs image"):
            self.sampler().set_features(identities=self.labels.identities, text=gaussian(6))
        with pytest.raises(DfgsError, match="got image; the sampler's graph needs image and text"):
            self.sampler(graph="both").set_features(identities=self.labels.identities, image=gaussian(6))


class TestAwkwardSets:
    def test_identical_features_of_everyone_do_not_stop_a_walk(self):
        labels = make_labels([4] * 30)
        sampler = make_sampler("dfgs", labels, np.ones((30, 3), dtype=np.float32))
        assert sampler.statistics.identities_served == 30

    @pytest.mark.parametrize("name", ["pk", "dfgs"])
    def test_an_identity_with_very_many_images_does_not_crowd_out_the_others(self, name):
        labels = make_labels([400] + [4] * 60)
        sampler = make_sampler(name, labels, gaussian(61))
        visits = visits_of(labels, sampler)
        assert 5 < visits[0] <= len(sampler)
        assert (visits[1:] < 2).sum() < 4


class TestContinuedPasses:
    labels = make_labels([5] * 30)

    def continued(self, name="dfgs", iterations=7, calls=None):
        def before_pass(sampler, index):
            if calls is not None:
                calls.append(index)
            request = sampler.feature_request(index)
            if request is not None:
                sampler.set_features(identities=self.labels.identities, image=gaussian(30, seed=index))

        sampler = REGISTRY.load(name)(self.labels, batch_size=8, instances=2, seed=0)
        return ContinuedPasses(sampler, iterations, before_pass)

    @pytest.mark.parametrize("name", ["dfgs", "pk"])
    def test_epochs_are_the_passes_one_after_the_other(self, name):
        continued = self.continued(name)
        epochs = [list(continued) for _ in range(6)]
        assert [len(epoch) for epoch in epochs] == [7] * 6 == [len(continued)] * 6
        whole = []
        for index in range(4):
            sampler = make_sampler(name, self.labels, gaussian(30, seed=index))
            sampler.set_epoch(index)
            whole += list(sampler)
        assert list(chain(*epochs)) == whole[:42]

    def test_features_are_asked_for_once_when_a_pass_begins(self):
        calls = []
        continued = self.continued(calls=calls)
        passes = []
        for _ in range(6):
            list(continued)
            passes.append(continued.passes)
        assert calls == list(range(sum(passes)))
        assert passes[:3] == [1, 0, 1]

    def test_an_epoch_of_several_passes_begins_each(self):
        calls = []
        continued = self.continued("pk", iterations=50, calls=calls)
        assert len(list(continued)) == 50
        assert continued.passes == len(calls) == 4
        assert continued.statistics.images_repeated == 400 - continued.statistics.images_served

    def test_the_statistics_are_those_of_the_epochs_batches(self):
        continued = self.continued()
        for _ in range(3):
            drawn = [index for batch in continued for index in batch]
            statistics = continued.statistics
            assert statistics.batches == 7
            assert statistics.identities_served == len(set(self.labels.pids[drawn].tolist()))
            assert statistics.images_repeated == len(drawn) - len(set(drawn))

    def test_restarts_are_those_of_the_passes_that_began_in_the_epoch(self):
        sampler = make_sampler("dfgs", make_labels([4] * 40), in_clusters([10] * 4), neighbours=3, skip=0)
        restarts = sampler.statistics.restarts
        assert restarts >= 3
        continued = ContinuedPasses(sampler, len(sampler))
        counts = []
        for _ in range(2):
            list(continued)
            counts.append(continued.statistics.restarts)
        assert counts == [restarts, sampler.statistics.restarts]

    def test_a_pass_begins_only_when_its_batches_are_asked_for(self):
        calls = []
        continued = self.continued("pk", iterations=50, calls=calls)
        seen = [(len(run), len(calls)) for run in continued.segments()]
        assert [number for _, number in seen] == list(range(1, len(seen) + 1))
        assert sum(length for length, _ in seen) == 50
        assert list(continued)

    @pytest.mark.parametrize("epochs", [0, 1, 3])
    def test_a_resumed_run_goes_on_as_if_undisturbed(self, epochs):
        undisturbed, stopped = self.continued(), self.continued()
        for _ in range(epochs):
            list(undisturbed)
            list(stopped)
        resumed = self.continued(calls=(calls := []))
        resumed.restore(copy.deepcopy(stopped.state()))
        np.testing.assert_equal(resumed.state(), stopped.state())
        assert not calls
        assert [list(resumed) for _ in range(5)] == [list(undisturbed) for _ in range(5)]

    @pytest.mark.parametrize("name", ["dfgs", "pk"])
    @pytest.mark.parametrize("trained", range(1, 50, 4))
    def test_a_run_that_is_resumed_inside_an_epoch_serves_and_tells_what_an_undisturbed_one_does(self, name, trained):
        undisturbed, stopped, resumed = (self.continued(name, iterations=50) for _ in range(3))
        whole, batches, runs = list(undisturbed), [], stopped.segments()
        while len(batches) < trained:
            batches += next(runs)
        resumed.restore(copy.deepcopy(stopped.state(pending=len(batches) - trained)))
        assert resumed.is_inside
        for _ in range(3):
            assert list(resumed) == whole[trained:]
            assert resumed.statistics == undisturbed.statistics
            assert (resumed.passes, resumed.images.tolist()) == (undisturbed.passes, undisturbed.images.tolist())
            np.testing.assert_equal(resumed.edges, undisturbed.edges)
            assert resumed.sampler.reach == undisturbed.sampler.reach
            assert not resumed.is_inside
            whole, trained = list(undisturbed), 0

    def test_the_state_of_another_run_is_refused(self):
        continued = self.continued()
        list(continued)
        state = continued.state()
        other = ContinuedPasses(REGISTRY.load("pk")(self.labels, batch_size=6, instances=2, seed=0), 3)
        with pytest.raises(DfgsError, match=r"batches of 8 out of at least .* expected batches of 6 out of 150"):
            other.restore(state)

    def test_a_pass_without_batches_is_an_error_and_no_endless_loop(self):
        labels = make_labels([2] * 8)
        sampler = make_sampler("dfgs", labels, in_clusters([4, 4]), neighbours=2, skip=0, batch_size=10, restart=False)
        with pytest.raises(DfgsError, match=r"pass 0 has no batch; .* 5 identities"):
            list(ContinuedPasses(sampler, 3))

    def test_iterations_must_be_a_count(self):
        with pytest.raises(DfgsError, match="iterations=0 must be"):
            self.continued(iterations=0)


class ReleasedDraws:
    """The draws of the released code: Python's and NumPy's global generators, seeded alike."""

    def __init__(self, seed):
        self.python, self.numpy = random.Random(seed), np.random.RandomState(seed)

    def shuffle(self, items):
        self.python.shuffle(items)

    def below(self, number):
        return self.python.randrange(number)

    def fill(self, items, number):
        return self.numpy.choice(items, size=number, replace=True).tolist()


def released_world(seed, identities, most_images, cameras):
    """The stub data of the side-by-side run: labels, features float32 (N, 8)."""
    draws = np.random.RandomState(seed)
    counts = draws.randint(2, most_images + 1, size=identities)
    pids = draws.permutation(np.repeat(draws.permutation(3 * identities)[:identities], counts)).astype(np.int64)
    camids = draws.randint(0, cameras, size=len(pids)).astype(np.int64)
    return Labels(pids, camids, np.zeros_like(pids)), draws.standard_normal((identities, 8)).astype(np.float32)


RELEASED = [
    ("dfgs-released", "image", (1, 180, 12, 4), ["7670c603a8bffbb2", "bac7e6b0d917cc8f"]),
    ("dfgs-released", "image", (2, 300, 7, 1), ["48ade7e85b15de7d", "c989e270e3743d41"]),
    ("dfgs-released", "image", (3, 900, 9, 6), ["8e9710d85cf2628a", "d00fd02405855853"]),
    ("dfgs-released", "text", (1, 180, 12, 4), ["78259915ba0befe4", "077c81a97bc1a520"]),
    ("dfgs-released", "text", (2, 300, 7, 1), ["e082243e391d6b50", "27524671a49b759f"]),
    ("dfgs-released", "text", (3, 900, 9, 6), ["ceef2c30d51a420e", "4ed16a0ff3e213a7"]),
    ("gs-released", None, (1, 180, 12, 4), ["7f21049ef564c47a", "39c0e6c7ccbb1dcc"]),
    ("gs-released", None, (2, 300, 7, 1), ["0cf28fce58db8f70", "9b465ff32258fcec"]),
    ("gs-released", None, (3, 900, 9, 6), ["91d953f4a6b5ec04", "bafde67082e3651e"]),
]
"""Digests of two passes of the released classes (Qi5Lei/DFGS eea81cd, `datasets/samplers/sampler.py`).

They come from running those classes themselves, outside this repository, on the data of `released_world`: K = 4,
batches of 64 (GS: 128), text ranks from 1; the model is a stub that returns an identity's feature; `random` and
`numpy.random` of their module are generators seeded with the world's seed, the choice of the graph's images has one of
its own (it does not matter to the stub). A digest is the first 16 hexadecimal digits of the SHA-256 of the JSON list of
full batches.
"""


class TestReleased:
    @pytest.mark.parametrize(("name", "graph", "world", "digests"), RELEASED)
    def test_batches_are_those_of_the_released_classes(self, name, graph, world, digests):
        labels, features = released_world(*world)
        own = {"graph": graph, "batch_size": 64} if graph else {"neighbours": 31, "cap": 24320, "batch_size": 128}
        sampler = make_sampler(name, labels, features, instances=4, **own)
        draws = ReleasedDraws(world[0])
        for digest in digests:
            text = json.dumps(sampler.replay(draws).images.tolist())
            assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest

    def test_the_image_graph_keeps_look_alikes_together_and_the_text_graph_does_not(self):
        labels, features = make_labels([4] * 400), gaussian(400, 3)
        shares = {}
        for graph in ("image", "text"):
            near = [set(row) for row in nearest([features], 40).tolist()]
            batches = make_sampler("dfgs-released", labels, features, graph=graph, batch_size=64, instances=4)
            pairs = [pair for batch in batches for pair in permutations(identities_of(labels, batch), 2)]
            shares[graph] = np.mean([b in near[a] for a, b in pairs])
        assert shares["image"] > 0.25
        assert abs(shares["text"] - 40 / 399) < 0.02

    def test_without_restart_isolated_clusters_are_lost(self):
        labels, features = make_labels([4] * 80), in_clusters([20] * 4)
        released = make_sampler("dfgs-released", labels, features).statistics
        assert released.identities_served <= 20
        assert make_sampler("dfgs", labels, features).statistics.unserved < 4

    def test_gs_serves_the_identities_of_one_pk_pass_by_default(self):
        labels = make_labels([4] * 100)
        sampler = make_sampler("gs-released", labels, gaussian(100), batch_size=16, instances=2)
        assert len(sampler) == 200 // 8 + 1

    def test_gs_refuses_neighbours_that_leave_a_batch_unfilled(self):
        with pytest.raises(DfgsError, match=r"neighbours=5 with 29 other .* neighbours \+ 1 a multiple of 4"):
            make_sampler("gs-released", make_labels([4] * 30), gaussian(30), neighbours=5)
        assert len(make_sampler("gs-released", make_labels([4] * 30), gaussian(30), neighbours=7, cap=15)) == 4

    def test_too_few_identities_for_the_fixed_ranks_are_refused(self):
        with pytest.raises(DfgsError, match="graph=image needs 10 other identities, the training set has 7"):
            make_sampler("dfgs-released", make_labels([4] * 8), gaussian(8))
