"""Mixed precision, faults of a GPU, and run-time options: what can be held without a GPU."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dfgs.cli import cli
from dfgs.config import BackboneSettings, Config
from dfgs.errors import DfgsError, DivergedError
from dfgs.extraction import embed_targets
from dfgs.grid import Grid, Trial
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.precision import Arithmetic
from dfgs.models.prompts import PromptLearner
from dfgs.provenance import read_json
from dfgs.training import loop
from dfgs.training.finetune import finetune
from dfgs.training.loss_scale import LossScale
from dfgs.training.prompts import learn_prompts

Values = dict[str, Any]
CPU = torch.device("cpu")
TRIAL = Trial("a", "tiny", "pk", 0)


def grid(values: Values, **arithmetic: Any) -> Grid:
    """The grid of a configuration with other arithmetic; the smallest training that shows it."""
    values["models"]["tiny"] |= arithmetic
    values["models"]["tiny"]["prompts"]["epochs"] = 1
    values["models"]["tiny"]["input"]["augment"]["augmix"] = 0
    return Grid(Config.parse(values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("precision")


def trained(values: Values, folder: Path, device: torch.device = CPU, **arithmetic: Any) -> dict[str, Path]:
    """Run both stages from the same random weights; the files of stage 2."""
    jobs = grid(values, **arithmetic)
    torch.manual_seed(1)
    learn_prompts(jobs.prompts_job("a", "tiny", 0), None, folder / "prompts.safetensors", 0, device)
    output = {"weights": folder / "weights.safetensors", "record": folder / "record.json"}
    output |= {name: folder / f"{name}.csv" for name in ("curve", "audit")}
    finetune(jobs.finetune_job(TRIAL), folder / "prompts.safetensors", output, 0, device)
    return output


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_plain_float32_is_in_no_job_whether_it_is_written_out_or_not(values: Values) -> None:
    def jobs(chosen: Grid) -> list[Values]:
        return [chosen.prompts_job("a", "tiny", 0), chosen.finetune_job(TRIAL), chosen.embed_job(TRIAL)]

    plain, written = jobs(grid(values)), jobs(grid(values, precision="float32", compile=False))
    assert plain == written
    assert all("precision" not in job and "compile" not in job for job in plain)


def test_other_arithmetic_is_in_the_jobs_that_it_changes(values: Values) -> None:
    chosen = grid(values, precision="bf16", compile=True)
    for job in (chosen.prompts_job("a", "tiny", 0), chosen.finetune_job(TRIAL)):
        assert (job["precision"], job["compile"]) == ("bf16", True)
    assert chosen.embed_job(TRIAL)["precision"] == "bf16"
    assert "compile" not in chosen.embed_job(TRIAL)  # features are embedded as they are


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_both_stages_near_float32_and_writes_its_scale(
    on_disk: Values, folder: Path, tmp_path: Path, precision: str
) -> None:
    reference = folder / "float32"
    if not reference.exists():
        trained(on_disk, reference)
    output = trained(on_disk, tmp_path, precision=precision)
    mixed, plain = rows_of(output["curve"]), rows_of(reference / "curve.csv")
    assert "loss_scale" not in plain[0]
    assert [(row["loss_scale"], row["skipped_steps"]) for row in mixed] == [
        ({"bf16": "1.0", "fp16": "65536.0"}[precision], "0")
    ] * len(mixed)
    losses = [[float(row["loss"]) for row in rows] for rows in (mixed, plain)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    for tensors in (load_file(output["weights"]), load_file(tmp_path / "prompts.safetensors")):
        assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}


def test_features_of_mixed_precision_are_float32_and_kept_apart_from_those_of_float32(
    on_disk: Values, tmp_path: Path
) -> None:
    names, features = {}, {}
    for precision in ("float32", "bf16"):
        index = tmp_path / precision / "index.json"
        embed_targets(grid(on_disk, precision=precision).embed_job(TRIAL), {}, index, 0, CPU)
        names[precision] = read_json(index)["features"]["drawn-a/test/query"]
        features[precision] = np.load(index.with_name(names[precision]))
    assert names["float32"] != names["bf16"]
    assert features["bf16"].dtype == np.float32
    assert not np.array_equal(features["bf16"], features["float32"])
    np.testing.assert_allclose(features["bf16"], features["float32"], rtol=0.1, atol=0.05)


def test_compiled_are_the_training_steps_alone_and_without_a_break_in_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def compiled(run: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        assert not dynamic
        traced = compile_for_real(run, dynamic=False, fullgraph=True, backend="eager")
        return lambda *arguments: seen.append(run.__qualname__) or traced(*arguments)

    compile_for_real = torch.compile
    monkeypatch.setattr(torch, "compile", compiled)
    settings = {"architecture": "dfgs-small", "pretrained": None, "input_size": (64, 32), "stride": None}
    backbone = BackboneSettings.model_validate(settings | {"last_stride": 2, "pretrain": None})
    clip = build_clip(backbone, None)
    images, rows = torch.randn(4, 3, 64, 32), torch.tensor([1, 0])
    encoder, learner = ImageEncoder(clip.visual, True), PromptLearner(clip, backbone, 2, 2, torch.Generator())
    expected = encoder.train()(images).projected, learner(rows)
    for module in (encoder, learner):
        module.compute_as(Arithmetic(compile=True))
    torch.testing.assert_close((encoder(images).projected, learner(rows)), expected, rtol=1e-4, atol=1e-5)
    assert seen == ["ImageEncoder._encode", "PromptEncoder.forward"]
    encoder.eval()(images)
    learner.all_features()
    assert len(seen) == 2


class _Overflowing(nn.Module):
    """A parameter whose gradient is not finite at chosen steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def loss(self, is_bad: bool) -> torch.Tensor:
        return (self.weight * (torch.inf if is_bad else 1.0)).sum()


def test_a_step_with_gradients_that_are_not_finite_is_left_out_and_counted() -> None:
    model, scale = _Overflowing(), LossScale(Arithmetic("fp16"), CPU)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.25)
    for is_bad in (False, True, True, False):
        scale.step(model.loss(is_bad), optimiser)
    assert float(model.weight.detach()) == pytest.approx(0.5)
    assert scale.figures() == {"loss_scale": 65536.0 / 4, "skipped_steps": 2}
    assert scale.figures()["skipped_steps"] == 0
    assert not scale.is_lost


@pytest.mark.parametrize(("precision", "steps"), [("bf16", 1), ("fp16", 17)])
def test_a_training_is_lost_when_no_loss_scale_is_left(precision: str, steps: int) -> None:
    model, scale = _Overflowing(), LossScale(Arithmetic(precision), CPU)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.25)
    for _ in range(steps):
        assert not scale.is_lost
        scale.step(model.loss(True), optimiser)
    assert scale.is_lost
    assert torch.equal(model.weight.detach(), torch.ones(1))


def test_a_resumed_loss_scale_goes_on_where_it_was() -> None:
    model, scale = _Overflowing(), LossScale(Arithmetic("fp16"), CPU)
    scale.step(model.loss(True), torch.optim.SGD(model.parameters(), lr=0.25))
    again = LossScale(Arithmetic("fp16"), CPU)
    again.restore(scale.state())
    for one in (scale, again):
        one.step(model.loss(True), torch.optim.SGD(model.parameters(), lr=0.25))
    assert again.figures() == scale.figures() == {"loss_scale": 65536.0 / 4, "skipped_steps": 2}
    assert LossScale().state() == {}


def test_a_training_whose_gradients_overflow_stops_with_its_step(
    on_disk: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ImageEncoder.forward

    def overflowing(self: ImageEncoder, *arguments: Any) -> Any:
        features = forward(self, *arguments)
        if features.projected.requires_grad:
            features.projected.register_hook(lambda gradient: gradient * torch.inf)
        return features

    monkeypatch.setattr(ImageEncoder, "forward", overflowing)
    expected = (
        r"^prior with sampler 'pk': gradients are not finite at any loss scale \(1 steps.*at step 1; lower [^\n]*$"
    )
    with pytest.raises(DivergedError, match=expected):
        trained(on_disk, tmp_path, precision="bf16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["stage 2", "prompts", "embedding"])
def test_a_full_gpu_is_named_with_batch_size_and_memory_in_one_line(
    on_disk: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …\nmore lines")

    on_disk["models"]["tiny"]["prior"] = None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 80 * 2**30))
    target = {"stage 2": (loop, "hardness"), "prompts": (LossScale, "step"), "embedding": (ImageEncoder, "_encode")}[
        stage
    ]
    monkeypatch.setattr(*target, full)
    left = r" \(1.0 of 80.0 GiB free\); "
    expected = {
        "stage 2": rf"^stage 2 with sampler 'pk': .* batch of 8 of 64×32 images{left}set batch\.size",
        "prompts": rf"^prompts \(stage 1\): .* batch of 16{left}lower prompts\.batch_size",
        "embedding": rf"^embedding: .* of 64×32 images{left}free the GPU",
    }
    with pytest.raises(DfgsError, match=expected[stage] + r"[^\n]*$"):
        trained(on_disk, tmp_path)


def test_a_gpu_without_bf16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    cuda = torch.device("cuda")
    with pytest.raises(DfgsError, match=r"^precision 'bf16': the GPU Tesla T4 does not .* set precision to fp16"):
        Arithmetic.of({"precision": "bf16"}, cuda)
    assert Arithmetic.of({"precision": "fp16"}, cuda).precision == "fp16"


def test_an_unknown_precision_is_refused_in_the_configuration_and_in_a_job(values: Values) -> None:
    with pytest.raises(
        DfgsError, match=r"^config: models\.tiny\.precision is 'bf32': Input should be 'float32', 'bf16'"
    ):
        grid(values, precision="bf32")
    with pytest.raises(DfgsError, match=r"^precision 'bfloat16' is not known; use float32, bf16, fp16$"):
        Arithmetic.of({"precision": "bfloat16"}, CPU)


def test_more_workers_than_cores_are_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    arguments = ["embed", "--job", "{}", "--workers", "3", "out"]
    with pytest.raises(DfgsError, match=r"^--workers 3: this job may use 2 cores; give at most 2$"):
        cli(arguments, standalone_mode=False)


def test_deterministic_sets_cublas_before_torch_is_imported_and_torch_obeys() -> None:
    code = """
import os, sys, click
from dfgs.cli.options import device_option
@click.command()
@device_option
def command(device):
    import torch
    print(os.environ["CUBLAS_WORKSPACE_CONFIG"], torch.are_deterministic_algorithms_enabled(), device)
assert "torch" not in sys.modules
command(["--deterministic", "--device", "cpu"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ":4096:8 True cpu\n"
