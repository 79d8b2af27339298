"""The command line: a user's mistake is one line and status 2, a bug keeps its traceback."""

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dfgs import cli
from dfgs.cli.options import find_device
from dfgs.drawn.world import DomainSpec, digest_domain
from dfgs.errors import EXIT_PREEMPTED, EXIT_SUPERSEDED, Preempted, SupersededError
from dfgs.provenance import read_json
from dfgs.runs.cells import OUTPUTS
from dfgs.runs.lease import Lease, Terms, acquire, home

Main = Callable[..., int]
THREADS = """
import os, sys
from dfgs import cli
cli.cli = lambda prog_name: print(*[os.environ.get(name) for name in cli.THREAD_VARIABLES])
cli.main()
"""


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[Main]:
    """Run the command line in this process and return its exit status."""
    levels = {name: logging.getLogger(name).level for name in ("", "dfgs")}
    environment = dict(os.environ)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["dfgs", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    yield run
    os.environ.clear()
    os.environ.update(environment)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_users_mistake_is_one_line_on_stderr_and_status_2(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("collect", tmp_path / "out.csv", tmp_path / "missing.csv") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: cannot read ")
    assert "missing.csv" in err
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(prog_name: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "cli", bug)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main()


def test_a_preempted_job_leaves_with_the_reserved_status(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(prog_name: str) -> None:
        raise Preempted("SIGTERM, state kept at step 7")

    monkeypatch.setattr(cli, "cli", leave)
    assert main("finetune") == EXIT_PREEMPTED == 75
    assert capsys.readouterr().err == "preempted: SIGTERM, state kept at step 7\n"


def test_a_superseded_job_leaves_with_a_status_of_its_own(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(prog_name: str) -> None:
        raise SupersededError("attempt 1 was taken over by attempt 2")

    monkeypatch.setattr(cli, "cli", leave)
    assert main("finetune") == EXIT_SUPERSEDED == 76
    assert capsys.readouterr().err == "superseded: attempt 1 was taken over by attempt 2\n"


def test_a_stage_whose_outputs_are_held_leaves_in_one_line_and_else_is_recorded(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DFGS_LEASE_WAIT", "0")
    spec = {"seed": 1, "gap": 0.1, "cameras": 2, "train_identities": 2, "test_identities": 2, "images_per_camera": 1}
    job = json.dumps(spec | {"family": 2, "distractors": 1, "junk": 1})
    folder, manifest = tmp_path / "results" / "worlds" / "w", tmp_path / "results" / "worlds" / "w.json"
    lease = acquire(home(manifest), {"stage": "draw", "job": "j", "outputs": [str(manifest)]}, Terms())
    assert isinstance(lease, Lease)
    assert main("draw", "--job", job, folder, manifest) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {manifest} is being made by process {os.getpid()} on ")
    assert said.count("\n") == 1
    assert not folder.exists()
    lease.write(state="ended", outcome="bug")
    assert main("draw", "--job", job, folder, manifest) == 0
    record = read_json(tmp_path / "results" / "attempts" / "worlds" / "w.json" / "0002.json")
    assert (record["stage"], record["outcome"]) == ("draw", "completed")
    assert record["outputs"] == [str(manifest), str(folder)]


@pytest.mark.parametrize("command", ["draw", "pretrain", "learn-prompts", "finetune", "embed", "score-trial"])
def test_every_stage_holds_all_files_that_it_is_told_to_write(
    main: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    held: list[tuple[str, set[str]]] = []

    @contextmanager
    def look(stage: str, job: object, outputs: list[Path]) -> Iterator[bool]:
        held.append((stage, {path.name for path in outputs}))
        yield False

    monkeypatch.setattr("dfgs.runs.attempts.attempt", look)
    stage = {"learn-prompts": "learn_prompts", "score-trial": "score"}.get(command, command)
    inputs = {"finetune": ["prompts"], "score-trial": ["index"]}.get(command, [])
    outputs = [Path(path).name.replace("{cell}", "x") for path in OUTPUTS[stage]]
    if command == "draw":
        outputs = ["x", *outputs]
    assert main(command, "--job", "{}", *inputs, *(tmp_path / name for name in outputs)) == 0
    assert held == [(stage, set(outputs))]


def test_cuda_where_there_is_none_is_one_line(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    files = [tmp_path / "weights", tmp_path / "report"]
    assert main("pretrain", "--job", "{}", "--device", "cuda", *files) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --device cuda: torch ")
    assert "finds no CUDA device here; use --device cpu" in err
    assert err.count("\n") == 1
    assert main("pretrain", "--job", "{}", "--device", "gpu", *files) == 2
    assert capsys.readouterr().err == "error: --device 'gpu' is not known; use cpu, cuda or auto\n"


def test_the_device_is_chosen_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert find_device("auto").type == expected
        assert find_device("cpu").type == "cpu"


def test_a_job_that_is_no_json_is_refused_with_status_2(
    main: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main("draw", "--job", "{seed: 1}", tmp_path / "w", tmp_path / "w.json") == 2
    assert "not JSON" in capsys.readouterr().err


def test_help_names_every_stage_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom dfgs.cli import cli\ncli(['--help'], standalone_mode=False)\n"
        "print(*sorted({'torch', 'open_clip', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    for command in ("draw", "pretrain", "learn-prompts", "finetune", "embed", "score-trial", "aggregate", "tabulate"):
        assert f"  {command} " in done.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
def test_memory_that_a_step_frees_is_there_for_the_next() -> None:
    code = (
        "import resource\nimport numpy as np\nfrom dfgs import cli\n{}\n"
        "for _ in range(30):\n    [np.ones(2**18) for _ in range(8)]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )
    faults = [
        int(
            subprocess.run([sys.executable, "-c", code.format(line)], capture_output=True, text=True, check=True).stdout
        )
        for line in ("", "cli.keep_memory()")
    ]
    assert faults[0] - faults[1] > 30_000


HEAVY = (
    "torch torch._dynamo torchvision timm transformers open_clip open_clip.factory open_clip.tokenizer huggingface_hub "
    "numba pandas matplotlib scipy faiss"
)
STARTS = {
    "dfgs.drawn.world": "",
    "dfgs.scoring": "pandas",
    "dfgs.results": "",
    "dfgs.extraction": "open_clip torch",
    "dfgs.training.finetune": "open_clip torch",
    "dfgs.training.prompts": "open_clip torch",
    "dfgs.training.pretrain": "open_clip torch",
}
"""What the modules of the stages load of what costs a process a tenth of a second or more; the rest comes when used."""


@pytest.mark.parametrize("module", STARTS)
def test_a_stage_starts_with_no_more_than_it_needs(module: str) -> None:
    code = f"import sys, {module}\nprint(*sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == STARTS[module]


@pytest.mark.parametrize("command", sorted(cli.cli.commands))
def test_every_command_explains_itself(main: Main, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(command, "--help") == 0
    assert f"Usage: dfgs {command}" in capsys.readouterr().out


def test_one_thread_per_job_whatever_the_environment_says() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "7"}
    environment.pop("MKL_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "1", "1"]


def test_draw_publishes_the_job_and_the_package_runs_as_a_module(tmp_path: Path) -> None:
    spec = DomainSpec(
        seed=1,
        gap=0.1,
        cameras=2,
        train_identities=2,
        test_identities=2,
        images_per_camera=1,
        family=2,
        distractors=1,
        junk=1,
    )
    job = json.dumps({name: getattr(spec, name) for name in DomainSpec.__slots__})
    command = [sys.executable, "-m", "dfgs", "draw", "--job", job, str(tmp_path / "w"), str(tmp_path / "w.json")]
    subprocess.run(command, check=True, capture_output=True)
    assert read_json(tmp_path / "w.json")["digest"] == digest_domain(spec)


def test_a_collected_experiment_carries_its_name(main: Main, tmp_path: Path) -> None:
    header = "experiment,source,target,split,model,sampler,seed,metric,value,protocol,commit,versions\n"
    part = tmp_path / "part.csv"
    part.write_text(header + "-,a,b,test,tiny,pk,0,mAP,40.5,p,c,v\n")
    assert main("aggregate", "--experiment", "main", "--target", "b", tmp_path / "e.csv", part) == 0
    assert main("collect", tmp_path / "all.csv", tmp_path / "e.csv") == 0
    assert (tmp_path / "all.csv").read_text() == header + "main,a,b,test,tiny,pk,0,mAP,40.5,p,c,v\n"


def test_convert_weights_hands_on_what_the_user_knows(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dfgs.models import conversion

    given: list[object] = []
    monkeypatch.setattr(conversion, "convert_weights", lambda *arguments: given.extend(arguments))
    options = ("--activation", "gelu", "--input-size", 256, 128, "--stride", 12, "--architecture", "ViT-B-16")
    assert main("convert-weights", tmp_path / "in.pt", tmp_path / "out.safetensors", *options) == 0
    known = {"quick_gelu": False, "input_size": (256, 128), "stride": 12, "architecture": "ViT-B-16"}
    assert given == [tmp_path / "in.pt", tmp_path / "out.safetensors", known]
    given.clear()
    assert main("convert-weights", "a", "b") == 0
    assert given == [Path("a"), Path("b"), {}]
    assert main("fetch-weights", "ViT-B-16", "openia") == 2
    assert (
        capsys.readouterr().err == "error: backbone: open_clip has no weights 'openia' for ViT-B-16 (did you mean "
        "'openai'?)\n"
    )


def test_a_calibration_tells_its_rates_and_ends_with_1_when_a_promise_is_broken(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("calibrate", "--grids", 300) == 0
    assert "grids without a difference" in capsys.readouterr().out
    assert main("calibrate", "--grids", 60, "--effect", 0.1) == 1
    assert "not as promised: power" in capsys.readouterr().err
