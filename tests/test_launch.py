"""`dfgs launch` without a cluster: stand-ins for SLURM's commands, one launch per folder, what is refused at the start.

The real cluster is in tests/cluster.
"""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dfgs.errors import DfgsError
from dfgs.launch import cluster, holding, standins
from dfgs.launch.command import prepare
from dfgs.launch.supervise import Watch

Fake = Callable[..., None]
RUN = "4b1c"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a command of one shell line on PATH, which holds nothing else but the system's own."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    monkeypatch.setenv(standins.STATE, str(tmp_path / "run/.snakemake/dfgs-launch"))
    standins.state_folder().mkdir(parents=True)

    def put(name: str, line: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (folder / name).chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("rule_finetune_wildcards_drawn-a_small_dfgs-image_0", "finetune-drawn-a-dfgs-image-s0"),
        ("rule_learn_prompts_wildcards_a_small-dfgs_2", "learn_prompts-a-s2"),
        ("rule_pretrain_wildcards_small", "pretrain-small"),
        ("rule_evaluate_embed_score", "evaluate_embed_score"),
    ],
)
def test_a_job_gets_a_name_that_reads(comment: str, name: str) -> None:
    assert standins.readable(comment) == name


def test_sbatch_gets_the_name_and_the_run_moves_into_the_comment(fake: Fake, tmp_path: Path) -> None:
    fake("sbatch", f'printf "%s\\n" "$@" > {tmp_path}/seen; echo 17')
    given = ["--parsable", "--job-name", RUN, "--comment", "rule_draw_wildcards_a", "--wrap=true"]
    assert standins.sbatch(given) == 0
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen[seen.index("--job-name") + 1] == "draw-a"
    mark, run, _, comment = seen[seen.index("--comment") + 1].split()
    assert (mark, run, comment) == (standins.token(tmp_path / "run"), RUN, "rule_draw_wildcards_a")
    assert (standins.state_folder() / f"{RUN}.jobs").read_text() == "17\n"


def test_a_job_whose_submission_got_no_answer_is_not_submitted_again(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standins.time, "sleep", lambda _: None)
    fake("sbatch", f'for a; do last=$c; c=$a; [ "$last" = --comment ] && echo "$a" >> {tmp_path}/taken; done\n'
         'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1')  # fmt: skip
    fake("squeue", f'while read -r c; do echo "21|PENDING|$c"; done < {tmp_path}/taken')
    assert standins.sbatch(["--job-name", RUN, "--comment", "rule_draw", "--wrap=true"]) == 0
    assert capsys.readouterr().out == "21\n"
    assert len((tmp_path / "taken").read_text().splitlines()) == 1


def test_a_refused_job_is_told_at_once(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake("sbatch", 'echo "sbatch: error: Invalid qos specification" >&2; exit 1')
    assert standins.sbatch(["--job-name", RUN, "--comment", "rule_draw", "--wrap=true"]) == 1
    assert "Invalid qos" in capsys.readouterr().err


def test_a_silent_controller_means_that_nothing_is_known_and_nobody_has_failed(fake: Fake) -> None:
    fake("squeue", "exit 1")
    assert standins.states(RUN) == {}
    assert standins.query("squeue", ["--noheader", "--name", RUN]) == 0


def test_states_are_those_that_the_plugin_knows(fake: Fake) -> None:
    (standins.state_folder() / f"{RUN}.jobs").write_text("1\n2\n3\n")
    fake("squeue", f'echo "1|PREEMPTED|x {RUN} y"; echo "9|RUNNING|x other y"')
    fake("sacct", 'echo "2|CANCELLED by 0"')
    assert standins.states(RUN) == {"1": "FAILED", "2": "CANCELLED"}


def test_a_job_that_slurm_no_longer_knows_is_judged_by_its_outputs_after_a_while(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    (standins.state_folder() / f"{RUN}.jobs").write_text("3\n")
    fake("squeue", "true")
    fake("sacct", "exit 1")
    assert standins.states(RUN) == {}
    monkeypatch.setenv(standins.PATIENCE, "0")
    assert standins.states(RUN) == {"3": "UNKNOWN"}


def test_the_stand_ins_come_first_on_the_path_and_ask_the_real_command(fake: Fake, tmp_path: Path) -> None:
    fake("squeue", 'echo "real $@"')
    environment = prepare(standins.state_folder())
    done = subprocess.run(["squeue", "--me"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "real --me\n"
    fake("squeue", f'echo "5|TIMEOUT|mark {RUN} key"')
    done = subprocess.run(["squeue", "--name", RUN], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "5|TIMEOUT\n"


def test_a_second_launch_in_a_folder_leaves_in_a_sentence_that_names_the_first(tmp_path: Path) -> None:
    state = tmp_path / ".snakemake/dfgs-launch"
    with holding.held(state) as dead:
        assert dead is None
        with pytest.raises(DfgsError, match=f"held by dfgs launch, process {os.getpid()} on "), holding.held(state):
            pass
    assert not (state / "holder.json").exists()


def test_a_dead_launch_is_taken_over_and_told(tmp_path: Path) -> None:
    state = tmp_path / ".snakemake/dfgs-launch"
    with holding.held(state):
        gone = json.loads((state / "holder.json").read_text()) | {"started": psutil.Process().create_time() - 60}
    (state / "holder.json").write_text(json.dumps(gone))
    with holding.held(state) as dead:
        assert dead == gone


def test_a_holder_on_another_machine_lives_as_long_as_it_touches_its_file(tmp_path: Path) -> None:
    state = tmp_path / ".snakemake/dfgs-launch"
    with holding.held(state):
        elsewhere = json.loads((state / "holder.json").read_text()) | {"host": "login2"}
    path = state / "holder.json"
    path.write_text(json.dumps(elsewhere))
    with pytest.raises(DfgsError, match="on login2"), holding.held(state):
        pass
    os.utime(path, (time.time() - 2 * holding.SILENCE,) * 2)
    with holding.held(state) as dead:
        assert dead == elsewhere


def test_of_many_launches_at_once_exactly_one_proceeds(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dfgs.launch import holding\n"
        "with holding.held(Path(sys.argv[1])):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".snakemake/dfgs-launch")]
    stale = {"host": holding.socket.gethostname(), "pid": 1, "started": 0.0, "since": "long ago"}
    (tmp_path / ".snakemake/dfgs-launch").mkdir(parents=True)
    (tmp_path / ".snakemake/dfgs-launch/holder.json").write_text(json.dumps(stale))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, text=True, **pipes) for _ in range(8)]  # type: ignore[call-overload]
    deadline = time.monotonic() + 60
    while sum(process.poll() is None for process in running) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(process.communicate()[0] for process in running) == [""] * 7 + ["in\n"]


def settings(**others: object) -> Namespace:
    """What Snakemake reads from a profile, as far as it matters here."""
    return Namespace(**{"default_resources": {}, "set_resources": {}, "set_threads": {}} | others)


@pytest.fixture
def slurm(fake: Fake) -> Fake:
    """A cluster that takes everything, with the partitions main (default) and gpu."""
    for name in ("scancel", "scontrol", "sbatch", "squeue"):
        fake(name, "true")
    fake("sinfo", "echo main*; echo gpu")
    fake("sacctmgr", "echo physics")
    return fake


def test_a_profile_that_the_cluster_takes_passes(slurm: Fake) -> None:
    cluster.preflight(settings(default_resources={"slurm_partition": "main", "slurm_account": "physics"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default_resources": {"slurm_partition": "gpus"}}, "no partition is called 'gpus' \\(did you mean 'gpu'"),
        ({"set_resources": {"finetune": {"slurm_partition": "night"}}}, "no partition is called 'night'"),
        ({"default_resources": {"slurm_account": "physic"}}, "no account is called 'physic' \\(did you mean 'physics'"),
        ({"slurm_array_jobs": "all"}, "slurm-array-jobs"),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_before_anything_is_submitted(
    slurm: Fake, change: dict[str, object], message: str
) -> None:
    with pytest.raises(DfgsError, match=message):
        cluster.preflight(settings(**change))


def test_a_partition_is_asked_for_where_there_is_no_default(slurm: Fake) -> None:
    slurm("sinfo", "echo main; echo gpu")
    with pytest.raises(DfgsError, match="slurm_partition is not set and this cluster has no default"):
        cluster.preflight(settings())


def test_slurms_own_refusal_is_handed_on_in_one_line(slurm: Fake) -> None:
    slurm("sbatch", 'echo "allocation failure: Invalid qos specification" >&2; exit 1')
    with pytest.raises(DfgsError, match="qos: night: SLURM would refuse: allocation failure: Invalid qos"):
        cluster.preflight(settings(slurm_qos="night"))


def test_a_missing_command_and_a_controller_that_is_down_are_told_in_one_line(
    slurm: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm("scontrol", 'echo "Slurmctld(primary) at here is DOWN" >&2; exit 1')
    with pytest.raises(DfgsError, match="controller does not answer: Slurmctld"):
        cluster.preflight(settings())
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None if name == "sbatch" else f"/bin/{name}")
    with pytest.raises(DfgsError, match="there is no sbatch on PATH"):
        cluster.preflight(settings())


def test_a_job_that_slurm_would_never_start_is_cancelled_and_told(fake: Fake, tmp_path: Path) -> None:
    mark = standins.token(tmp_path)
    fake("squeue", f'echo "7|embed|PartitionTimeLimit|{mark} run"; echo "8|draw|Priority|{mark} run"')
    fake("scancel", f'echo "$@" >> {tmp_path}/cancelled')
    assert [line.split(";")[0] for line in cluster.cancel_hopeless(tmp_path)] == [
        "job 7 (embed) would never start: PartitionTimeLimit"
    ]
    assert (tmp_path / "cancelled").read_text() == "7\n"


def test_a_snakemake_that_does_nothing_has_stalled_unless_slurm_has_its_jobs_or_is_silent(
    fake: Fake, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as idle:
        fake("squeue", "true")
        assert Watch(idle.pid, tmp_path, 0.0).is_stalled()
        fake("squeue", f'echo "7|RUNNING|{standins.token(tmp_path)} run"')
        assert not Watch(idle.pid, tmp_path, 0.5).is_stalled()
        fake("squeue", "exit 1")
        assert not Watch(idle.pid, tmp_path, 0.5).is_stalled()
