"""Nearest neighbours as they are written: all pairs, float64; what the tests of samplers compare with."""

import numpy as np


def exact_distances(features):
    """Distances of all pairs in float64, infinite to oneself; several kinds are scaled and summed."""
    total = 0
    for rows in features:
        rows = rows.astype(np.float64)
        distances = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2))
        total = total + (distances / np.sqrt((distances**2).mean()) if len(features) > 1 else distances)
    np.fill_diagonal(total, np.inf)
    return total


def assert_true_neighbours(table, distances, first=0):
    """Row by row, `table` holds the neighbours at ranks `first`, `first` + 1, …, in any order, ties aside.

    Two distances are a tie where float32 cannot tell their squares apart beside the largest one.
    """
    tie = 1e-6 * np.max(distances, initial=1, where=np.isfinite(distances)) ** 2
    for row, others in enumerate(table.tolist()):
        assert row not in others
        assert len(set(others)) == len(others)
        right = np.sort(distances[row])[first : first + len(others)]
        assert np.allclose(np.sort(distances[row, others]) ** 2, right**2, rtol=1e-4, atol=tie)
