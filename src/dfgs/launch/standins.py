"""Stand-ins for sbatch, squeue and sacct that `dfgs launch` puts before the real ones on Snakemake's PATH.

Snakemake's slurm plugin (2.8) finds its jobs by a job name that is its run's uuid, forgets them when a query fails (a
controller restarts), and compares sacct's `CANCELLED by 0` with `CANCELLED`. Here a job gets a name that people read,
the uuid goes into its comment beside the folder's token, and a query answers with what is known. Standard library only
and run as a script without site-packages: it starts in 20 ms, for it runs at every poll.
"""

import json
import os
import re
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

STATE = "DFGS_LAUNCH_STATE"
PATIENCE = "DFGS_LAUNCH_PATIENCE"
MARK = "dfgs-launch"
ACTIVE = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "RESIZING",
    "STAGE_OUT",
}
ACTIVE |= {"REQUEUED", "REQUEUE_HOLD"}
# The plugin waits for ever for a job in a final state that it does not know.
AS_FAILED = {"PREEMPTED", "REVOKED", "SPECIAL_EXIT", "LAUNCH_FAILED", "RECONFIG_FAIL"}
# The controller did not answer; it may have taken the job all the same.
NO_ANSWER = re.compile(
    r"(?i)unable to contact|timed out|connection refused|connect failure|communication|not responding"
)
SUBMIT_FOR = 900.0


class NoAnswerError(Exception):
    """SLURM did not answer; nothing is known."""


def real(name: str) -> str:
    """Path of the command called `name` that is no stand-in; the bare name where there is none."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder) / name
        if os.access(path, os.X_OK) and path.is_file() and MARK not in Path(folder).parts:
            return str(path)
    return name


def ask(name: str, *arguments: str, timeout: float = 40) -> str:
    """Run a SLURM command that only asks and return what it prints; raise `NoAnswerError`."""
    try:
        done = subprocess.run([real(name), *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(str(error)) from error
    if done.returncode:
        raise NoAnswerError((done.stderr or done.stdout).strip())
    return done.stdout


def listed(mark: str) -> dict[str, tuple[str, str]]:
    """State and comment of this user's jobs whose comment holds `mark`, by job id."""
    text = ask("squeue", "--noheader", "--states=all", "--user", str(os.getuid()), "--format=%i|%T|%k")
    rows = [line.split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return {job: (state, comment) for job, state, comment in rows if mark in comment.split()}


def readable(comment: str) -> str:
    """Turn the plugin's comment into a job's name.

    >>> readable("rule_finetune_wildcards_drawn-a_small_dfgs-image_0")
    'finetune-drawn-a-dfgs-image-s0'
    """
    rule, _, text = comment.removeprefix("rule_").partition("_wildcards_")
    parts = text.split("_") if text else []
    if len(parts) >= 3:  # source, model, (sampler,) seed: the model is left out, the comment has it
        parts = [parts[0], *parts[2:-1], f"s{parts[-1]}"]
    return "-".join([rule, *parts])


def state_folder() -> Path:
    """Folder in which a launch keeps what it knows, told to the stand-ins by an environment variable."""
    return Path(os.environ[STATE])


def token(folder: Path) -> str:
    """Mark of a working folder in the comments of its jobs."""
    import hashlib

    return f"{MARK}:{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}"


def sbatch(arguments: list[str]) -> int:
    """Submit once: a readable name, the run in the comment, no second job where the controller's answer was lost."""
    run, comment = _value(arguments, "--job-name"), _value(arguments, "--comment")
    if run is None or comment is None:
        return subprocess.run([real("sbatch"), *arguments], check=False).returncode
    key = uuid.uuid4().hex
    arguments = _replace(arguments, "--job-name", readable(comment))
    arguments = _replace(arguments, "--comment", f"{token(state_folder().parents[1])} {run} {key} {comment}")
    script = None if any(a.startswith("--wrap") for a in arguments) else sys.stdin.read()
    code, out, error = _submit(arguments, script, key)
    if code == 0:
        with (state_folder() / f"{run}.jobs").open("a", encoding="utf-8") as known:
            known.write(out.strip().split(";")[0] + "\n")
    sys.stdout.write(out)
    sys.stderr.write(error)
    return code


def _submit(arguments: list[str], script: str | None, key: str) -> tuple[int, str, str]:
    end = time.monotonic() + SUBMIT_FOR
    while True:
        done = subprocess.run(
            [real("sbatch"), *arguments], input=script or "", capture_output=True, text=True, check=False
        )
        if done.returncode == 0 or not NO_ANSWER.search(done.stderr) or time.monotonic() > end:
            return done.returncode, done.stdout, done.stderr
        time.sleep(5)
        with suppress(NoAnswerError):
            taken = sorted(listed(key))
            if taken:
                return 0, f"{taken[0]}\n", ""


def _value(arguments: list[str], option: str) -> str | None:
    return arguments[arguments.index(option) + 1] if option in arguments[:-1] else None


def _replace(arguments: list[str], option: str, value: str) -> list[str]:
    place = arguments.index(option) + 1
    return [*arguments[:place], value, *arguments[place + 1 :]]


def states(run: str) -> dict[str, str]:
    """State of every job of a plugin's run that anything is known of, by job id.

    The plugin takes a job without a state for an active one, so silence is the right answer to "I do not know".
    """
    try:
        known = {job: state for job, (state, _) in listed(run).items()}
    except NoAnswerError:
        return {}
    unseen = [job for job in _submitted(run) if job not in known]
    known |= _accounted(unseen)
    known |= _vanished(run, [job for job in unseen if job not in known])
    return {job: "FAILED" if state in AS_FAILED else state for job, state in known.items()}


def _submitted(run: str) -> list[str]:
    path = state_folder() / f"{run}.jobs"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def _accounted(jobs: list[str]) -> dict[str, str]:
    """States by slurmdbd, which may lag; empty without accounting. `CANCELLED by 0` is `CANCELLED`."""
    if not jobs:
        return {}
    try:
        text = ask("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", "--jobs", ",".join(jobs))
    except NoAnswerError:
        return {}
    rows = [line.split("|", 1) for line in text.splitlines() if "|" in line]
    return {job: state.split()[0] for job, state in rows if state}


def _vanished(run: str, jobs: list[str]) -> dict[str, str]:
    """Jobs that an answering SLURM has not known for a while: `UNKNOWN`, so that Snakemake looks for their outputs."""
    path = state_folder() / f"{run}.missing"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = {job: before.get(job, time.time()) for job in jobs}
    if missing != before:
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(missing), encoding="utf-8")
        partial.replace(path)
    patience = float(os.environ.get(PATIENCE, "300"))
    return {job: "UNKNOWN" for job, since in missing.items() if time.time() - since > patience}


def query(name: str, arguments: list[str]) -> int:
    """Answer the plugin's question for a run's jobs; anything else goes to the real command."""
    run = _value(arguments, "--name")
    if run is None:
        return subprocess.run([real(name), *arguments], check=False).returncode
    for job, state in sorted(states(run).items()):
        print(f"{job}|{state}")
    return 0


def main() -> int:
    """Stand in for the command that the first argument names."""
    name, arguments = sys.argv[1], sys.argv[2:]
    return sbatch(arguments) if name == "sbatch" else query(name, arguments)


if __name__ == "__main__":
    sys.exit(main())
