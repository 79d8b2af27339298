"""Files under faults: crashes at every system call, full disks, two launches at once, strays that wake up again."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from faults_writers import WRITERS, Writer

from dfgs.errors import EXIT_SUPERSEDED, DfgsError, SupersededError
from dfgs.provenance import write_bytes
from dfgs.runs.attempts import attempt
from dfgs.runs.lease import Terms, clear_leftovers, home, read_record, tokens

CRASHED = 77
EVENTS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir", "os.truncate"})
LEVELS = (0.0, 0.3, 0.6, 0.95)
"""Free space on the full disk, as a share of what the new artefact needs."""
DISK = 16 * 2**20
WRONG = 1


@dataclass
class Tally:
    """Counts by name; `faults` tells what was not as promised."""

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number


def in_child(body: Callable[[], Any]) -> int:
    """Run `body` in a forked process; return its process id. It ends with 0, 2, 76 or 1, as the command line does."""
    child = os.fork()
    if child:
        return child
    status = WRONG
    try:
        body()
        status = 0
    except SupersededError:
        status = EXIT_SUPERSEDED
    except DfgsError as error:
        status = 2
        with suppress(OSError):
            Path(tempfile.gettempdir(), f"dfgs-fault-{os.getpid()}").write_text(str(error), encoding="utf-8")
    finally:
        os._exit(status)


def outcome(child: int) -> tuple[int, str]:
    """Wait for a child; return its status and what its `DfgsError` said."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = Path(tempfile.gettempdir(), f"dfgs-fault-{child}")
    text = said.read_text(encoding="utf-8") if said.exists() else ""
    said.unlink(missing_ok=True)
    return status, text


# --- crashes ---------------------------------------------------------------------------------------------------------


def count_events(folder: Path, at: int = 0) -> list[int]:
    """Count calls that open, rename, remove, make, link or sync below `folder`; end the process right before one."""
    seen = [0]

    def meet(path: object) -> None:
        if not str(path).startswith(str(folder)):
            return
        seen[0] += 1
        if seen[0] == at:
            os._exit(CRASHED)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and isinstance(arguments[0], str | bytes | os.PathLike):
            meet(os.fsdecode(arguments[0]))

    def synced(call: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: Any) -> None:
            meet(folder)
            call(*arguments)

        return wrapped

    sys.addaudithook(hook)
    os.fsync, os.sync = synced(os.fsync), synced(lambda: None)  # the whole machine need not be synced in a test
    return seen


def events_of(writer: Writer, folder: Path) -> int:
    """Return the number of a writer's crash points."""

    def body() -> None:
        seen = count_events(folder)
        writer.write(folder, 2)
        (folder.parent / "count").write_text(str(seen[0]))

    assert outcome(in_child(body))[0] == 0, writer.name
    return int((folder.parent / "count").read_text())


def crash(writer: Writer, work: Path, tally: Tally, at: int = 0, size: int = 0) -> None:
    """Let a writer die at its call number `at`, or when a file grows beyond `size` bytes, and look at what is left."""
    folder = fresh(writer, work)

    def body() -> None:
        if size:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            os.sync = lambda: None
        else:
            count_events(folder, at)
        writer.write(folder, 2)

    child, status = in_child(body), None
    while status is None:
        look(writer, folder, work, tally, "reads while writing")
        found, raw = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(raw) if found else None
    if status not in (CRASHED, -signal.SIGXFSZ):
        tally.faults.append(f"{writer.name}: ended with {status} where it was to crash ({at or f'{size} bytes'})")
    tally.add("crashes")
    look(writer, folder, work, tally, "reads after a crash")
    writer.write(folder, 2)
    clear_leftovers([folder / name for name in writer.outputs])
    if writer.state(folder) != writer.state(work / "new") or list(folder.rglob(".*.part")):
        tally.faults.append(f"{writer.name}: the next run did not mend what a crash left ({at or f'{size} bytes'})")


def look(writer: Writer, folder: Path, work: Path, tally: Tally, kind: str) -> None:
    """Read all that a writer publishes; each part must be the earlier or the new one, whole."""
    described = writer.description(folder)
    found = writer.state(folder)
    if described != writer.description(folder) or (described == {None} and kind == "reads while writing"):
        return  # a folder is read as a whole only while its description stands
    tally.add(kind)
    for name, value in found.items():
        known = {writer.expected(work / age).get(name) for age in ("old", "new")}
        if value not in known and not (value is None and writer.may_be_absent):
            tally.add("partial reads")
            tally.faults.append(f"{writer.name}: {name} is neither the earlier nor the new one")


def fresh(writer: Writer, work: Path) -> Path:
    """Return a folder with the earlier artefact."""
    folder = work / "now"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "old", folder)
    return folder


@contextmanager
def ready(writer: Writer) -> Iterator[Path]:
    """Make the earlier and the new artefact of a writer in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        for version, age in ((1, "old"), (2, "new")):
            (work / age).mkdir()
            writer.write(work / age, version)
        yield work


def crashes(trials: int, tally: Tally) -> None:
    """Crash every writer at every call, and in the middle of its bytes until there are `trials`."""
    rng = np.random.default_rng(0)
    for writer in WRITERS:
        with ready(writer) as work:
            points = events_of(writer, fresh(writer, work))
            largest = max(path.stat().st_size for path in (work / "new").rglob("*") if path.is_file())
            chosen = sorted(rng.permutation(np.arange(1, points + 1))[: max(3, trials // (2 * len(WRITERS)))])
            for at in chosen:
                crash(writer, work, tally, at=int(at))
            for _ in range(max(1, -(-trials // len(WRITERS)) - len(chosen))):
                crash(writer, work, tally, size=int(rng.integers(1, largest)))


def lease_crashes(tally: Tally) -> None:
    """Crash a job at every call of its lease and record; the next one must take over at once, with the next token."""
    at = 0
    while True:
        at += 1
        with tempfile.TemporaryDirectory() as name:
            output, terms = Path(name).resolve() / "results" / "runs" / "weights", Terms(1000.0, 0.0)

            def compute(at: int = at, output: Path = output, terms: Terms = terms) -> None:
                count_events(output.parents[2], at)
                with attempt("finetune", {}, [output], terms):
                    write_bytes(output, b"whole")

            status, _ = outcome(in_child(compute))
            folder = home(output)
            before = max(tokens(folder), default=0)
            tally.add("crashes of a lease")
            if any(not read_record(path) for path in folder.glob("*.json")):
                tally.faults.append(f"lease: a record is cut after call {at}")
            with attempt("finetune", {}, [output], terms):
                write_bytes(output, b"whole")
            if max(tokens(folder)) != before + 1 or output.read_bytes() != b"whole":
                tally.faults.append(f"lease: not taken over after call {at}")
        if status == 0:
            return


# --- full disks ------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """Mount a file system in memory; None where this user may not."""
    with tempfile.TemporaryDirectory() as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", name]
        try:
            is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            is_mounted = False
        try:
            yield Path(name).resolve() if is_mounted else None
        finally:
            if is_mounted:
                subprocess.run(["umount", name], check=True)


def full_disks(tally: Tally, levels: tuple[float, ...] = LEVELS) -> None:
    """Let every writer meet a disk that has room for a share of what it needs; without mounts, a limit on files."""
    with small_disk() as disk:
        for writer in WRITERS:
            for level in levels:
                with ready(writer) as work:
                    _full_disk(writer, work, disk, level, tally)


def _full_disk(writer: Writer, work: Path, disk: Path | None, level: float, tally: Tally) -> None:
    sizes = {path: path.stat().st_size for path in (work / "new").rglob("*") if path.is_file()}
    largest = max(sizes.values())
    # Files of one writer replace each other one by one; a folder needs room for all that is in it.
    need = sum(sizes.values()) if any((work / "new" / name).is_dir() for name in writer.outputs) else largest
    folder = (disk or work) / "now"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "old", folder)
    if disk is not None:
        _fill(disk, int(level * need))

    def body() -> None:
        os.sync = lambda: None
        if disk is None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(1, int(level * largest)),) * 2)
        writer.write(folder, 2)

    status, said = outcome(in_child(body))
    tally.add("full disks")
    where = f"{writer.name} with {level:.0%} of its space"
    if status != 2 or not any(str(folder / name) in said for name in writer.outputs) or " bytes" not in said:
        tally.faults.append(f"{where}: status {status}, said {said!r}")
    if writer.state(folder) != writer.state(work / "old"):
        later = writer.state(folder)
        whole = {name: writer.state(work / "new").get(name) for name in later}
        if any(value not in (writer.state(work / "old").get(name), whole[name]) for name, value in later.items()):
            tally.faults.append(f"{where}: the earlier artefact is not intact")
        tally.add("of several files, some new")
    if list(folder.rglob(".*.part")):
        tally.faults.append(f"{where}: a temporary file is left")
    if disk is not None:
        (disk / "filler").unlink()


def _fill(disk: Path, free: int) -> None:
    found = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(b"\0" * max(0, found.f_bavail * found.f_frsize - free))


# --- two at a time ---------------------------------------------------------------------------------------------------


def launches(rounds: int, tally: Tally) -> None:
    """Launch a stage twice at the same moment in one folder: exactly one computes; the other waits or leaves."""
    for round_ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            output, wait = Path(name, "results/runs/a/weights"), (0.0, 20.0)[round_ % 2]
            moment = time.monotonic() + 0.05

            def launch(output: Path = output, wait: float = wait, moment: float = moment) -> None:
                time.sleep(max(0.0, moment - time.monotonic()))
                with attempt("finetune", {"seed": 0}, [output], Terms(20.0, wait)) as is_needed:
                    if is_needed:
                        _note(output.parents[3] / "computed")
                        time.sleep(0.3)
                        write_bytes(output, str(os.getpid()).encode())

            children = [in_child(launch) for _ in range(2)]
            ends = sorted(outcome(child)[0] for child in children)
            computed = (output.parents[3] / "computed").read_text().split()
            tally.add("double launches")
            tally.add("published once", int(len(computed) == 1 and output.read_text() == computed[0]))
            expected = [0, 0] if wait else [0, 2]
            if ends != expected or len(computed) != 1:
                tally.faults.append(f"two launches, wait {wait:g} s: ended {ends}, computed {len(computed)} times")


def _note(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{os.getpid()}\n".encode())
    os.close(handle)


def strays(rounds: int, tally: Tally) -> None:
    """Stop a holder, let another take over after the lease has run out, wake the first: it must publish nothing."""
    terms = Terms(seconds=0.4, wait=20.0)
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            output = Path(name, "results/runs/a/weights")

            def compute(text: str, seconds: float, output: Path = output) -> None:
                with attempt("finetune", {"text": text}, [output], terms) as is_needed:
                    time.sleep(seconds)
                    if is_needed:
                        write_bytes(output, text.encode())

            stray = in_child(lambda compute=compute: compute("stray", 0.5))
            _wait_for(home(output) / "0001.json")  # else the other one would be first, and no stray
            time.sleep(0.4 * float(rng.random()))
            os.kill(stray, signal.SIGSTOP)
            winner = in_child(lambda compute=compute: compute("winner", 0.3))
            has_ended = bool(rng.random() < 0.5)
            if has_ended:
                won = outcome(winner)[0]
            else:
                _wait_for(home(output) / "0002.json")
            os.kill(stray, signal.SIGCONT)
            lost, _ = outcome(stray)
            won = won if has_ended else outcome(winner)[0]
            tally.add("strays")
            tally.add("strays that published", int(output.read_text() != "winner"))
            told = read_record(home(output) / "0001.json").get("outcome")
            if (won, lost, output.read_text()) != (0, EXIT_SUPERSEDED, "winner") or told != "superseded":
                tally.faults.append(f"stray: ended {lost}, recorded {told}; winner ended {won}; {output.read_text()}")


def strays_in_the_window(rounds: int, tally: Tally) -> None:
    """Stop a holder between its last question and its rename, let another one publish, wake the first."""
    terms = Terms(seconds=0.4, wait=20.0)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            output = Path(name, "results/runs/a/weights")

            def compute(text: str, is_stray: bool, output: Path = output) -> None:
                with attempt("finetune", {"text": text}, [output], terms):
                    if is_stray:
                        _stop_before_renaming_to(output)
                    write_bytes(output, text.encode())

            stray = in_child(lambda compute=compute: compute("stray", True))
            os.waitpid(stray, os.WUNTRACED)
            won = outcome(in_child(lambda compute=compute: compute("winner", False)))[0]
            os.kill(stray, signal.SIGCONT)
            lost = outcome(stray)[0]
            tally.add("strays stopped between question and rename")
            tally.add("strays that published", int(output.read_text() != "winner"))
            if (won, lost, output.read_text()) != (0, EXIT_SUPERSEDED, "winner"):
                tally.faults.append(f"stray in the window: ended {lost}; winner ended {won}; {output.read_text()}")


def _stop_before_renaming_to(output: Path) -> None:
    real = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if target == output:
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(self, target)

    Path.replace = stop  # type: ignore[method-assign]


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)


def campaign(trials: int, rounds: int, stray_rounds: int) -> Tally:
    """Run all four parts and return what was counted."""
    tally = Tally({"partial reads": 0, "strays that published": 0})
    crashes(trials, tally)
    lease_crashes(tally)
    full_disks(tally)
    launches(rounds, tally)
    strays(stray_rounds, tally)
    strays_in_the_window(stray_rounds, tally)
    return tally


@click.command()
@click.option("--trials", default=200, show_default=True, help="Crashes, over all writers.")
@click.option("--rounds", default=40, show_default=True, help="Double launches.")
@click.option("--strays", "stray_rounds", default=20, show_default=True)
def run(trials: int, rounds: int, stray_rounds: int) -> None:
    """Crash points, full disks, double launches and strays."""
    started = time.monotonic()
    tally = campaign(trials, rounds, stray_rounds)
    click.echo(f"writers: {len(WRITERS)} ({', '.join(writer.name for writer in WRITERS)})")
    for name, number in tally.counts.items():
        click.echo(f"{name}: {number}")
    click.echo(f"seconds: {time.monotonic() - started:.0f}")
    for fault in tally.faults:
        click.echo(f"not as promised: {fault}", err=True)
    if tally.faults:
        sys.exit(1)
