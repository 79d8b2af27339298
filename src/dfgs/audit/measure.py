"""The audit itself: one record for the batches that a sampler served."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.audit.batches import batch_figures, identity_means
from dfgs.audit.graph import graph_figures
from dfgs.audit.record import Audit, Served
from dfgs.errors import DfgsError
from dfgs.samplers._labels import Labels
from dfgs.samplers._neighbours import nearest
from dfgs.samplers.base import PassStatistics, check_count

NEIGHBOURS = 10
"""An in-batch pair counts as look-alike within this many nearest identities."""


def audit(labels: Labels, features: NDArray[Any], served: Served, neighbours: int = NEIGHBOURS) -> Audit:
    """Audit `served` under `features` (n, d), one row for each image in the order of `labels`.

    `neighbours` k: how many nearest identities count as look-alikes. Cost: the exact nearest identities, N^2 d / 2
    multiply-adds, and the products within the batches; memory beside the features: the identities' means, two at a
    time, never an N x N matrix. Raises `DfgsError` for another number of rows, a row that is not finite (named), fewer
    than two identities and a k that exceeds the others.
    """
    check_audit(labels, neighbours)
    rows = _checked(labels, features)
    reach = max([served.reach, *(table.shape[1] for table in served.edges)]) if served.edges else 0
    near = nearest([identity_means(labels, rows)], max(neighbours, reach))
    counts = PassStatistics.of(labels, served.images, served.restarts)
    return Audit(
        batches=counts.batches,
        identities=counts.identities,
        identities_served=counts.identities_served,
        images=counts.images,
        images_served=counts.images_served,
        images_repeated=counts.images_repeated,
        restarts=counts.restarts,
        **batch_figures(labels, rows, served.images, near[:, :neighbours]),
        **graph_figures(served.edges, near[:, :reach]),
        graph_seconds=served.graph_seconds,
        pass_seconds=served.pass_seconds,
        memory_mb=served.memory / 1e6,
    )


def check_audit(labels: Labels, neighbours: int) -> None:
    """Raise `DfgsError` unless there are two identities, and `neighbours` others of each."""
    others = len(labels.identities) - 1
    if not others:
        raise DfgsError(f"the only identity is pid {labels.identities[0]}; an audit compares two or more")
    check_count("neighbours", neighbours, 1)
    if neighbours > others:
        raise DfgsError(f"neighbours={neighbours} exceeds the {others} other identities; choose at most {others}")


def _checked(labels: Labels, features: NDArray[Any]) -> NDArray[np.float32]:
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(labels):
        raise DfgsError(f"features have shape {rows.shape}; give one row for each of {len(labels)} images")
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    bad = np.flatnonzero(~(squares < 1e36))
    if len(bad):
        pid = labels.pids[bad[0]]
        raise DfgsError(
            f"feature row {bad[0]} (pid {pid}) is NaN, infinite or too large, {len(bad)} such rows in all; "
            "check the model that made them"
        )
    return rows
