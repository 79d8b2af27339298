"""`dfgs launch` on a real SLURM cluster; run by `.ci/run` (`pytest tests/cluster/check_cluster.py`, as root).

Not named test_*: a plain `pytest` needs no SLURM. The campaign, one fault at a time, is benchmarks/cluster_campaign.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import (
    PK,
    Cluster,
    Launch,
    cancelled_outside,
    kill_all,
    node_crashes,
    preempted,
    results,
    run_locally,
    up_to_prompts,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("local") / "run"
    return folder, run_locally(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster") / "slurm") as cluster:
        yield cluster


def check(launch: Launch, code: int, expected: dict[str, str]) -> None:
    """All cells are there, as an undisturbed run has them, each published once and rightly reported."""
    assert code == 0, launch.text[-3000:]
    assert results(launch.folder) == expected
    audit = launch.state_of(launch.cluster)
    assert audit.is_clean, f"{audit}\n{launch.cluster.jobs(launch.mark)}"


def test_a_grid_with_a_restart_of_the_controller_and_a_cancelled_job_ends_as_the_local_run(
    cluster: Cluster, base: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    launch = Launch(cluster, tmp_path / "grid").start()
    cancelled_outside(launch)
    cluster.restart_controller(12)
    check(launch, launch.wait(), base[1])
    names = set(cluster.jobs(launch.mark)["name"])
    assert {"draw-drawn-tiny-a", "pretrain-tiny", "learn_prompts-tiny-a-s0", PK} <= names
    assert list((launch.folder / ".snakemake/slurm_logs/rule_finetune").rglob("*.log"))


def test_a_crashed_node_a_killed_launcher_and_a_preemption_lose_nothing(
    cluster: Cluster, base: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    launch = Launch(cluster, up_to_prompts(base[0], tmp_path / "faults")).start()
    node_crashes(launch)
    cluster.wait_for(PK, "RUNNING", launch.mark)
    kill_all(launch)
    launch.start()
    cluster.wait_for(PK, "CANCELLED", launch.mark)
    preempted(launch)
    check(launch, launch.wait(), base[1])
