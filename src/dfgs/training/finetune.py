"""Stage 2: the image encoder is fine-tuned on the batches of the sampler under study."""

import csv
import io
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from dfgs.config import BANK, FRESH, BackboneSettings, BatchSettings, FinetuneSettings, InputSettings, TestSettings
from dfgs.data import Loader
from dfgs.errors import DfgsError
from dfgs.extraction import embed_images
from dfgs.losses.base import LossContext
from dfgs.models.cameras import CameraEmbedding
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.features import Features
from dfgs.models.precision import Arithmetic
from dfgs.models.towers import save_tower
from dfgs.models.weights import read_tensors, take_state
from dfgs.provenance import commit, digest_file, versions, write_json, write_text
from dfgs.samplers import REGISTRY
from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers.base import BatchSampler, FeatureRequest, Labels
from dfgs.training.auditing import EpochAudits
from dfgs.training.bank import IdentityBank, graph_agreement
from dfgs.training.candidates import Candidates
from dfgs.training.checkpoints import NEVER, Checkpoint, Rhythm
from dfgs.training.loop import TIMES, Stage, build_losses, train
from dfgs.training.loss_scale import LossScale
from dfgs.training.progress import Stopwatch
from dfgs.training.source import Source, load_source


def finetune(
    job: dict[str, Any],
    prompts: Path,
    output: dict[str, Path],
    workers: int,
    device: torch.device,
    rhythm: Rhythm = NEVER,
) -> None:
    """Fine-tune the image encoder of one trial and write `weights`, `curve` (a row per epoch), `audit` and `record`.

    A job with `selection` also leaves the image tower after those epochs in `candidates`, beside `weights`. `prompts`
    is the file of stage 1: its image tower is the start, its text features are frozen. Raises `DfgsError` if it was
    learned on other training images, whose text features would be other people's. A state is kept beside the weights
    in the `rhythm` that is asked for, and gone on from.
    """
    clock = Stopwatch()
    backbone = BackboneSettings.model_validate(job["backbone"])
    settings, batch = FinetuneSettings.model_validate(job["finetune"]), BatchSettings.model_validate(job["batch"])
    source = load_source(job["source"], backbone)
    learned = read_tensors(prompts)
    _check_source(prompts, source)
    text = learned.pop("text").to(device)
    clip = build_clip(backbone.model_copy(update={"pretrained": None}), None)
    tower = {name.removeprefix("visual."): tensor for name, tensor in learned.items() if name.startswith("visual.")}
    take_state(clip.visual, tower, prompts)
    encoder = _encoder(job, source, clip.visual, device)
    context = LossContext(encoder.widths, source.identities, text, torch.Generator().manual_seed(job["seed"]))
    sampler = build_sampler(job["sampler"], source, batch, job["seed"])
    features = GraphFeatures(job, encoder, source, text, workers, device)
    audits = EpochAudits(job, encoder, source, workers, device)
    candidates = Candidates(job.get("selection", ()), encoder, output["weights"])
    prior = job.get("prior")
    stage = Stage(
        name="stage 2",
        sampler=job["sampler"]["name"],
        encoder=encoder,
        losses={name: loss.to(device) for name, loss in build_losses(settings.losses, context).items()},
        passes=ContinuedPasses(sampler, source.iterations(settings, batch), features.give),
        loader=Loader(
            source.store,
            InputSettings.model_validate(job["input"]),
            augment=True,
            workers=workers,
            seed=job["seed"],
            device=device,
        ),
        pids=source.pids,
        settings=settings,
        epochs=settings.epochs,
        first_epoch=1 + (prior["epochs"] if prior and settings.shared_schedule else 0),
        observe=features.observe if features.bank else None,
        watchers=(audits, candidates),
        scale=LossScale(encoder.arithmetic, device),
    )
    belongs = {"job": job, "prompts": digest_file(prompts), "images": source.pixels_digest(), "device": device.type}
    checkpoint = Checkpoint(output["weights"], belongs, rhythm)
    parts = {"audits": audits, "candidates": candidates, "graph_features": features, "generator": context.generator}
    with checkpoint.keeping(clock=clock, **parts):
        curve = train(stage, device, checkpoint)
    cost = sampler_cost(curve) | features.cost(source.labels, job["seed"])
    save_tower(encoder, output["weights"])
    write_curve(curve, output["curve"])
    audits.write(output["audit"])
    record = {
        "trial": job["trial"],
        "job": job,
        "weights": digest_file(output["weights"]),
        "prompts": digest_file(prompts),
        "commit": commit(),
        "versions": versions(),
    }
    if candidates.paths:
        record["candidates"] = candidates.digests
    size = {"images": len(source.store), "identities": source.identities, "device": device.type}
    record["batches"] = audits.batches
    seconds = {"seconds": clock.seconds, "audit_seconds": audits.seconds}
    write_json(output["record"], {**record, **seconds, **cost, **size})
    checkpoint.clear()


def _check_source(prompts: Path, source: Source) -> None:
    with safe_open(prompts, framework="pt") as file:
        learned_on = (file.metadata() or {}).get("source")
    if learned_on != source.digest:
        raise DfgsError(
            f"prompts {prompts} were learned on other training images than those of source {source.name!r} "
            f"({learned_on}, expected {source.digest}); learn the prompts of this source"
        )


def build_sampler(job: dict[str, Any], source: Source, batch: BatchSettings, seed: int) -> BatchSampler:
    """Build the sampler of a job, whose arguments the configuration has checked; `DfgsError` for impossible values."""
    sampler: BatchSampler = REGISTRY.load(job["class"])(
        source.labels, batch_size=batch.size, instances=batch.instances, seed=seed, **job["arguments"]
    )
    return sampler


def sampler_cost(curve: list[dict[str, float]]) -> dict[str, list[float]]:
    """Move the times of every epoch out of `curve`, which is the same for equal runs, and add the sampler's share."""
    times = {name: [row.pop(name) for row in curve] for name in TIMES}
    whole, part = (times[name] for name in TIMES)
    return times | {"sampler_share": [p / w for p, w in zip(part, whole, strict=True)]}


class GraphFeatures:
    """Gives a graph sampler the features it asks for before each pass, from the model as it is then.

    With `features: bank` only the first pass's are embedded; they start the bank that gives all others.
    """

    def __init__(
        self,
        job: dict[str, Any],
        encoder: ImageEncoder,
        source: Source,
        text: Tensor,
        workers: int,
        device: torch.device,
    ) -> None:
        self.names = TestSettings.model_validate(job["test"]).features
        settings = InputSettings.model_validate(job["input"])
        self.loader = Loader(source.store, settings, augment=False, workers=workers, device=device)
        self.encoder, self.text, self.device = encoder, text, device
        is_banked = job["sampler"].get("features") == BANK
        self.bank = IdentityBank(source.identities) if is_banked else None
        self.seconds, self.count = 0.0, 0
        self.used: Counter[str] = Counter()

    def give(self, sampler: BatchSampler, index: int) -> None:
        """Embed what the sampler requests (features as at test time, not normalised) and hand it over."""
        request = sampler.feature_request(index)
        if request is None:
            return
        started = time.perf_counter()
        image = None if request.images is None else self._image(request)
        text = None
        if "text" in request.kinds:
            text = self.text.cpu().numpy()
            self.used["text"] += 1
        sampler.set_features(identities=sampler.labels.identities, image=image, text=text)
        self.seconds += time.perf_counter() - started
        self.count += 1

    def observe(self, features: Features, labels: Tensor) -> None:
        """Let the bank see what a training step has computed, augmentation included."""
        assert self.bank is not None
        self.bank.add(features.joined(self.names).cpu().numpy(), labels.cpu().numpy())

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs: the bank's means and what the graphs have cost."""
        figures = {"seconds": self.seconds, "count": self.count, "used": dict(self.used)}
        return figures | {"bank": {} if self.bank is None else self.bank.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.seconds, self.count, self.used = state["seconds"], state["count"], Counter(state["used"])
        if self.bank is not None:
            self.bank.restore({name: rows.numpy() for name, rows in state["bank"].items()})

    def cost(self, labels: Labels, seed: int) -> dict[str, Any]:
        """Tell the seconds, number and features of the graphs; of a bank's also how it agrees with clean features."""
        figures = {"graph_seconds": self.seconds, "graphs": self.count, "graph_features": dict(self.used)}
        if self.bank is None or self.bank.means is None:
            return figures
        clean = self._embed(np.arange(len(labels)))
        return figures | {"graph_agreement": graph_agreement(labels, clean, self.bank.means, seed)}

    def _image(self, request: FeatureRequest) -> NDArray[np.float32]:
        """Take the bank's means, a copy that later steps leave alone, or embed what the request names."""
        if self.bank is not None and self.bank.means is not None:
            self.used[BANK] += 1
            return self.bank.means.copy()
        assert request.images is not None
        self.used[FRESH] += 1
        rows = request.pool(self._embed(request.images))
        if self.bank is not None:
            self.bank.start(rows)
        return rows

    def _embed(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = embed_images(
            self.encoder, self.loader, images.tolist(), self.names, self.device
        ).numpy()
        return rows


def _encoder(job: dict[str, Any], source: Source, visual: nn.Module, device: torch.device) -> ImageEncoder:
    """Wrap the image tower, with a fresh camera embedding where one is asked for."""
    encoder, coefficient = ImageEncoder(visual, job["freeze_statistics"]), job.get("camera_embedding")
    if coefficient is not None:
        generator = torch.Generator().manual_seed(job["seed"])
        cameras = CameraEmbedding(source.cameras, encoder.widths["pooled"], coefficient, generator)
        encoder = ImageEncoder(visual, job["freeze_statistics"], cameras)
    encoder.compute_as(Arithmetic.of(job, device))
    return encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def write_curve(curve: list[dict[str, float]], path: Path) -> None:
    """Write one row per epoch; a figure that an epoch lacks is left empty."""
    columns = list(dict.fromkeys(name for row in curve for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    write_text(path, text.getvalue())
