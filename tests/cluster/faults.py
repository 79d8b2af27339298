"""A real SLURM cluster of virtual nodes, launches on it, what goes wrong with them, and an audit of what came of it."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
CONFIGS = ("config/smoke.yaml", "tests/cluster/cell.yaml")
PROFILE = ("--workflow-profile", "workflow/profiles/slurm")
THREADS = ("--set-threads", "finetune=1", "learn_prompts=1", "embed=1", "--cores", "2")
# The quick poll is the tests' own; the plugin's takes minutes to see that a job has ended.
QUICK = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10")


class Cluster:
    """The cluster of start.sh; `with Cluster() as cluster` starts it and always stops it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_TEST_DIR": str(folder), "MEM": "16000", "GPU_NODES": "2", **settings}
        self.environment["SLURM_CONF"] = str(folder / "etc/slurm.conf")

    def __enter__(self) -> "Cluster":
        try:
            self.script("start.sh")
        except BaseException:
            self.script("stop.sh")
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.script("stop.sh")

    def script(self, name: str, *arguments: str) -> str:
        """Run one of the scripts beside this file."""
        done = subprocess.run(
            [HERE / name, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *command: str) -> str:
        """Run a SLURM command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def jobs(self, mark: str = "") -> pd.DataFrame:
        """All jobs whose comment holds `mark`: id, name, state, node, cell (what the job is for)."""
        text = self.ask("squeue", "--noheader", "--states=all", "--format=%i|%j|%T|%N|%S|%e|%k")
        rows = [line.split("|", 6) for line in text.splitlines()]
        frame = pd.DataFrame(rows, columns=["id", "name", "state", "node", "start", "end", "comment"])
        frame["cell"] = frame["comment"].str.split(" ").str[-1]
        return frame[frame["comment"].str.contains(mark, regex=False)].reset_index(drop=True)

    def wait_for(self, name: str, state: str, mark: str, seconds: float = 120) -> "pd.Series[str]":
        """Wait until a job of this name is in this state, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            jobs = self.jobs(mark)
            found = jobs[(jobs["name"] == name) & (jobs["state"] == state)]
            if len(found):
                return found.iloc[-1]
            time.sleep(0.3)
        raise TimeoutError(f"no job {name} {state} within {seconds} s:\n{self.jobs(mark)}")

    def restart_controller(self, down: float) -> None:
        """Kill slurmctld, leave it down for a while, and start it with the state it had kept."""
        pid = self.folder / "run/slurmctld.pid"
        os.kill(int(pid.read_text()), signal.SIGKILL)
        time.sleep(down)
        log = (self.folder / "log/slurmctld.out").open("a")
        running = subprocess.Popen(
            ["slurmctld", "-D"], env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        pid.write_text(f"{running.pid}\n")


@dataclass
class Launch:
    """A `dfgs launch` in a folder of its own."""

    cluster: Cluster
    folder: Path
    arguments: tuple[str, ...] = ()
    quick: bool = True
    running: "subprocess.Popen[bytes] | None" = None
    texts: list[Path] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """Token of the folder in the comments of its jobs."""
        return f"dfgs-launch:{hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]}"

    def start(self) -> "Launch":
        """Start it in the background."""
        environment = dict(self.cluster.environment)
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        if self.quick:
            environment |= {"DFGS_SNAKEMAKE": str(HERE / "fastpoll.py"), "FASTPOLL": "1", "DFGS_LAUNCH_PATIENCE": "20"}
        command = ["dfgs", "launch", *PROFILE, "--configfile", *CONFIGS, *THREADS, *(QUICK if self.quick else ())]
        self.texts.append(self.folder.with_suffix(f".{len(self.texts)}.log"))
        with self.texts[-1].open("w") as log:
            self.running = subprocess.Popen(
                [*command, *self.arguments, "--directory", str(self.folder), "--", "all"],
                cwd=CHECKOUT, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def wait(self, seconds: float = 300) -> int:
        """Wait for its end and return the exit status; it is interrupted when it takes too long."""
        assert self.running is not None
        try:
            return self.running.wait(seconds)
        except subprocess.TimeoutExpired:
            self.running.send_signal(signal.SIGINT)
            self.running.wait(120)
            return 124

    @property
    def text(self) -> str:
        """What all its processes have printed."""
        return "".join(path.read_text(errors="replace") for path in self.texts)

    def state_of(self, cluster: Cluster) -> "Audit":
        """Audit what the folder and SLURM hold now."""
        return audit(cluster.jobs(self.mark), self.text)


@dataclass(frozen=True)
class Audit:
    """What must be zero: cells published twice or by two jobs at a time, and states that Snakemake got wrong."""

    jobs: int
    twice: list[str]
    overlapping: list[str]
    wrong: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was published twice and no state was wrong."""
        return not (self.twice or self.overlapping or self.wrong)


def audit(jobs: pd.DataFrame, text: str) -> Audit:
    """Hold what SLURM knows of the jobs against what Snakemake said of them."""
    single = jobs[~jobs["cell"].str.startswith("rule_evaluate")]  # a group's comment names no cell
    twice, overlapping = [], []
    for cell, rows in single.groupby("cell"):
        if (rows["state"] == "COMPLETED").sum() > 1:
            twice.append(str(cell))
        spans = sorted((a, b) for a, b in zip(rows["start"], rows["end"], strict=True) if a != "N/A")
        if any(before[1] > after[0] for before, after in pairwise(spans)):
            overlapping.append(str(cell))
    slurm = dict(re.findall(r"Job (\S+) has been submitted with SLURM jobid (\d+)", text)[::-1])
    states = dict(zip(jobs["id"], jobs["state"], strict=True))
    failed = set(re.findall(r"SLURM-job '(\d+)' failed", text))
    done = set(re.findall(r"Finished jobid: (\S+)", text))
    wrong = [job for job in failed if states.get(job) == "COMPLETED"]
    wrong += [slurm[job] for job in done if states.get(slurm.get(job, ""), "COMPLETED") in ("RUNNING", "PENDING")]
    return Audit(len(jobs), twice, overlapping, wrong)


def results(folder: Path) -> dict[str, str]:
    """Digests of what decides a number: weights, prompts, scores per query, and metrics without commit."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        if path.is_file() and (path.suffix == ".safetensors" or path.name == "per_query.csv.gz"):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    metrics = folder / "results/metrics.csv"
    if metrics.exists():
        frame = pd.read_csv(metrics).drop(columns=["commit", "versions"], errors="ignore")
        found["metrics"] = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
    return found


def run_locally(folder: Path) -> dict[str, str]:
    """Run the cells undisturbed on this machine and return their digests."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", *CONFIGS, "--quiet", "all"]
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    subprocess.run(
        [*command, "--directory", str(folder), "--", "all"], cwd=CHECKOUT, env=environment, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return results(folder)


def up_to_prompts(finished: Path, folder: Path) -> Path:
    """Copy a finished folder without its trainings, so that a trial begins with them."""
    folder.mkdir(parents=True)
    kept = shutil.ignore_patterns(
        "attempts", "runs", "scores", "features", "experiments", "tables", "figures", "metrics.csv"
    )
    shutil.copytree(finished / "results", folder / "results", ignore=kept)
    shutil.copytree(finished / ".snakemake/metadata", folder / ".snakemake/metadata")
    return folder


PK, DFGS = "finetune-tiny-a-pk-s0", "finetune-tiny-a-dfgs-k3-s0"


def stage_runs(launch: Launch) -> "pd.Series[str]":
    """Wait until the training itself runs, below Snakemake, srun, Snakemake and a shell, and return its job."""
    job = launch.cluster.wait_for(PK, "RUNNING", launch.mark)
    log = launch.folder / "logs/finetune/tiny-a/tiny-dfgs/pk/s0.log"
    began, end = time.mktime(time.strptime(job["start"], "%Y-%m-%dT%H:%M:%S")), time.monotonic() + 120
    while not (log.exists() and log.stat().st_mtime >= began) and time.monotonic() < end:
        time.sleep(0.3)
    time.sleep(3)
    return job


def no_fault(launch: Launch) -> None:
    """Nothing goes wrong."""


def cancelled_outside(launch: Launch) -> None:
    """Somebody cancels a running job."""
    launch.cluster.ask("scancel", stage_runs(launch)["id"])


def node_crashes(launch: Launch) -> None:
    """The power of a node under a running job fails; it comes back later."""
    node = stage_runs(launch)["node"]
    launch.cluster.script("node.sh", "crash", node)
    launch.cluster.wait_for(PK, "NODE_FAIL", launch.mark)
    launch.cluster.script("node.sh", "up", node)


def node_unreachable(launch: Launch) -> None:
    """A node's network fails under a running training, which wakes when its successor is done and would publish too."""
    import psutil

    node = stage_runs(launch)["node"]
    strays = [p for p in psutil.process_iter(["cmdline", "cwd"]) if _is_training(p.info, launch.folder)]
    for stray in strays:
        stray.suspend()
    launch.cluster.script("node.sh", "lose", node)
    launch.cluster.wait_for(PK, "NODE_FAIL", launch.mark)
    launch.cluster.wait_for(PK, "COMPLETED", launch.mark, 240)
    for stray in strays:
        stray.resume()
    psutil.wait_procs(strays, 120)
    launch.cluster.script("node.sh", "up", node)
    if not strays:
        raise RuntimeError("no training was found on the lost node")


def time_exceeded(launch: Launch) -> None:
    """A training hangs until its job's time is over, past the signal that asks it to leave."""
    import psutil

    job = stage_runs(launch)
    hanging = [p for p in psutil.process_iter(["cmdline", "cwd"]) if _is_training(p.info, launch.folder)]
    for process in hanging:
        process.suspend()
    launch.cluster.ask("scontrol", "update", f"JobId={job['id']}", "TimeLimit=1")
    if not hanging:
        raise RuntimeError("no training was found to hang")


def _is_training(process: dict[str, Any], folder: Path) -> bool:
    """Whether a process is the training with PK in `folder` itself, no shell around it."""
    command = process["cmdline"] or []
    is_stage = "finetune" in command and "bash" not in command[0]
    return is_stage and process["cwd"] == str(folder.resolve()) and any("/pk/" in word for word in command)


def controller_restarts(launch: Launch) -> None:
    """The controller is away for twenty seconds while jobs run."""
    launch.cluster.wait_for(PK, "RUNNING", launch.mark)
    launch.cluster.restart_controller(20)


def launcher_killed(launch: Launch) -> None:
    """Launcher and Snakemake are killed while jobs run; then it is launched again."""
    launch.cluster.wait_for(PK, "RUNNING", launch.mark)
    kill_all(launch)
    launch.start()


def interrupted(launch: Launch) -> None:
    """Ctrl-C while jobs run: they are cancelled at once; then it is launched again."""
    launch.cluster.wait_for(PK, "RUNNING", launch.mark)
    assert launch.running is not None
    launch.running.send_signal(signal.SIGINT)
    if launch.running.wait(60) != 130:
        raise RuntimeError("an interrupted launch must end with 130")
    left = launch.cluster.jobs(launch.mark)["state"].isin(["RUNNING", "PENDING", "COMPLETING"]).sum()
    if left:
        raise RuntimeError(f"an interrupted launch left {left} jobs")
    launch.start()


def preempted(launch: Launch) -> None:
    """A running job's processes get the signal of a preemption or of a time limit that draws near."""
    job = stage_runs(launch)
    launch.cluster.ask("scancel", "--signal=TERM", job["id"])
    launch.cluster.wait_for(PK, "FAILED", launch.mark)


def kill_all(launch: Launch) -> None:
    """SIGKILL for the launcher and everything below it, as when its machine goes down."""
    import psutil

    assert launch.running is not None
    launcher = psutil.Process(launch.running.pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        process.kill()
    launch.running.wait()


def trial(cluster: Cluster, folder: Path, fault: Callable[[Launch], None], *arguments: str) -> tuple[Launch, int]:
    """Launch in `folder`, let a fault happen, and return the launch and its exit status."""
    launch = Launch(cluster, folder, arguments).start()
    try:
        fault(launch)
    finally:
        code = launch.wait()
    return launch, code
