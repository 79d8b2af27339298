"""Time and memory of a step of each real recipe: stage 1 and stage 2 of CLIP-DFGS and CLIP-ReID on ViT-B/16.

    python benchmarks/recipes.py [--recipe vit-dfgs] [--batch 8] [--steps 2] [--device cpu] [--identities 64]

Recipes come from `config/config.yaml` as they are, `pretrained` left out: weights are random, seeded. Images are noise
in memory. `--batch 0` takes the recipe's own batch. Every case is a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from dfgs.config import BackboneSettings, Config, ModelSettings
from dfgs.losses.base import LossContext
from dfgs.models.cameras import CameraEmbedding
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.prompts import PromptLearner
from dfgs.training.loop import build_losses
from dfgs.training.prompts import supervised_contrast

CONFIG = Path(__file__).parents[1] / "config" / "config.yaml"
CASES = {
    "vit-dfgs": ("vit-dfgs", "vit-b-16-224"),
    "vit-clip-reid": ("vit-clip-reid", "vit-b-16-256x128"),
    "vit-clip-reid-stride-12-cameras": ("vit-clip-reid", "vit-b-16-256x128-stride-12"),
    "rn50-clip-reid": ("vit-clip-reid", "rn50-256x128"),
}
"""Recipe and backbone of the configuration; the third case also has a camera embedding."""
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=[*CASES, "all"], default="all")
    parser.add_argument("--stage", type=int, choices=[1, 2], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--identities", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.stage:
        print(row(arguments), flush=True)
        return
    print("| recipe | stage | input | batch | s per step | CPU s per step | peak MiB | MiB of the model |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for recipe in CASES if arguments.recipe == "all" else [arguments.recipe]:
        for stage in (1, 2):
            again = [sys.executable, __file__, *sys.argv[1:], "--recipe", recipe, "--stage", str(stage)]
            subprocess.run(again, check=True)


def row(arguments: argparse.Namespace) -> str:
    """Run one case and describe it in a row of the table."""
    config = Config.parse(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))
    recipe, tower = CASES[arguments.recipe]
    model, backbone = config.models[recipe], config.backbones[tower].model_copy(update={"pretrained": None})
    device = torch.device(arguments.device)
    size = arguments.batch or (model.prompts.batch_size if arguments.stage == 1 else model.batch.size)
    clip = build_clip(backbone, None).to(device)
    held = sum(p.numel() * p.element_size() for p in clip.parameters()) / MIB
    build = prompt_step if arguments.stage == 1 else image_step
    step = build(clip, backbone, model, size, arguments.identities)
    step()  # the first one allocates
    wall, cpu = clock(device)
    for _ in range(arguments.steps):
        step()
    wall, cpu = (now - before for now, before in zip(clock(device), (wall, cpu), strict=True))
    height, width = backbone.input_size
    cells = [arguments.recipe, arguments.stage, f"{height}×{width}", size]
    cells += [f"{wall / arguments.steps:.2f}", f"{cpu / arguments.steps:.2f}", f"{peak(device):.0f}", f"{held:.0f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def clock(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def peak(device: torch.device) -> float:
    """Peak memory in MiB: of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prompt_step(clip: Any, backbone: BackboneSettings, model: ModelSettings, size: int, identities: int) -> Any:
    """A step of stage 1: text tower forward and backward to the contexts, image features given."""
    device = next(clip.parameters()).device
    learner = PromptLearner(clip, backbone, identities, model.prompts.context, torch.Generator().manual_seed(0)).to(
        device
    )
    optimiser = torch.optim.Adam([learner.contexts], model.prompts.learning_rate)
    width = ImageEncoder(clip.visual, model.freeze_statistics).widths["projected"]
    images = torch.randn(size, width, device=device)
    pids = (torch.arange(size, device=device) // model.batch.instances) % identities

    def step() -> None:
        text = learner(pids)
        loss = supervised_contrast(images, text, pids) + supervised_contrast(text, images, pids)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def image_step(clip: Any, backbone: BackboneSettings, model: ModelSettings, size: int, identities: int) -> Any:
    """A step of stage 2: image tower forward and backward under the recipe's own losses."""
    device = next(clip.parameters()).device
    cameras = None
    if backbone.stride == 12:
        cameras = CameraEmbedding([("a", i) for i in range(6)], clip.visual.conv1.out_channels, 1.0, torch.Generator())
    encoder = ImageEncoder(clip.visual, model.freeze_statistics, cameras).to(device).train()
    text = torch.randn(identities, encoder.widths["projected"], generator=torch.Generator().manual_seed(0))
    context = LossContext(encoder.widths, identities, text.to(device), torch.Generator().manual_seed(0))
    losses = {name: loss.to(device) for name, loss in build_losses(model.finetune.losses, context).items()}
    trained = [p for module in (encoder, *losses.values()) for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, model.finetune.learning_rate, weight_decay=model.finetune.weight_decay)
    images = torch.randn(size, 3, *backbone.input_size, device=device)
    pids = (torch.arange(size, device=device) // model.batch.instances) % identities
    rows = torch.arange(size, device=device) % 6

    def step() -> None:
        features = encoder(images, rows)
        total = torch.stack([loss(features, pids).value for loss in losses.values()]).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    main()
