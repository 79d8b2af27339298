"""On a GPU: trainings near the CPU's, equal bits in deterministic mode, batches prepared there, a full GPU named."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from dfgs.config import Config, InputSettings
from dfgs.data import ImageStore, Loader
from dfgs.errors import DfgsError
from dfgs.grid import Grid, Trial
from dfgs.models.memory import memory_named
from dfgs.provenance import digest_file
from dfgs.training.finetune import finetune
from dfgs.training.prompts import learn_prompts

pytestmark = pytest.mark.gpu
Values = dict[str, Any]
CPU = torch.device("cpu")


def trained(values: Values, folder: Path, device: torch.device, sampler: str = "dfgs-k3") -> dict[str, Path]:
    """Run both stages on a device; the files of stage 2."""
    jobs = Grid(Config.parse(values))
    learn_prompts(jobs.prompts_job("a", "tiny", 0), None, folder / "prompts.safetensors", 0, device)
    output = {"weights": folder / "weights.safetensors", "record": folder / "record.json"}
    output |= {name: folder / f"{name}.csv" for name in ("curve", "audit")}
    finetune(jobs.finetune_job(Trial("a", "tiny", sampler, 0)), folder / "prompts.safetensors", output, 0, device)
    return output


def losses(output: dict[str, Path]) -> list[float]:
    with output["curve"].open(newline="") as handle:
        return [float(row["loss"]) for row in csv.DictReader(handle)]


@pytest.mark.parametrize(
    ("arithmetic", "tolerance"),
    [
        ({"precision": "float32"}, 0.02),
        ({"precision": "float32", "compile": True}, 0.02),
        ({"precision": "bf16"}, 0.1),
        ({"precision": "bf16", "compile": True}, 0.1),
        ({"precision": "fp16"}, 0.1),
    ],
)
def test_a_training_on_the_gpu_has_the_losses_of_one_on_the_cpu(
    on_disk: Values, tmp_path: Path, device: torch.device, arithmetic: Values, tolerance: float
) -> None:
    on_disk["models"]["tiny"]["input"]["augment"]["jitter"] = 0
    expected = losses(trained(on_disk, tmp_path / "cpu", CPU, "pk"))
    on_disk["models"]["tiny"] |= arithmetic
    assert losses(trained(on_disk, tmp_path / "gpu", device, "pk")) == pytest.approx(expected, rel=tolerance)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_deterministic_trainings_on_the_gpu_give_equal_bits(
    on_disk: Values, tmp_path: Path, device: torch.device, precision: str
) -> None:
    on_disk["models"]["tiny"] |= {"precision": precision}
    runs = [trained(on_disk, tmp_path / name, device) for name in ("one", "two")]
    for name in ("weights", "curve"):
        assert digest_file(runs[0][name]) == digest_file(runs[1][name])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_prepared_on_the_gpu_are_those_of_the_cpu(
    world: Path, device: torch.device, workers: int
) -> None:
    store = ImageStore(sorted((world / "bounding_box_train").glob("*.jpg")), (64, 32))
    augment = {"grey": 0.2, "pad": 4, "flip": 0.5, "jitter": 0, "augmix": 0.5, "erase": 0.5}
    settings = InputSettings.model_validate({"normalise": "clip", "augment": augment})
    batches = [[i % len(store) for i in range(start, start + 16)] for start in range(0, 160, 16)]
    expected = list(Loader(store, settings, augment=True, workers=0).load(batches))
    found = list(Loader(store, settings, augment=True, workers=workers, device=device).load(batches))
    for (images, rows), (others, same) in zip(expected, found, strict=True):
        assert others.device.type == "cuda"
        assert torch.equal(rows, same)
        off = (others.cpu() - images).abs() > 1e-4
        assert float(off.float().mean()) < 1e-3


def test_a_full_gpu_is_named_in_one_line(device: torch.device) -> None:
    shape = torch.Size((128, 3, 256, 128))
    line = (
        r"^stage 2: the GPU has no memory left for a batch of 128 of 256×128 images \([\d.]+ of [\d.]+ GiB free\); x$"
    )
    with pytest.raises(DfgsError, match=line), memory_named("stage 2", shape, "x"):
        torch.empty(2**50, dtype=torch.uint8, device=device)
