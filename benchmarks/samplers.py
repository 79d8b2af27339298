"""What graphs and passes of the samplers cost, and whom they serve, beside the bare product and the released code.

    python benchmarks/samplers.py                                  up to 12,000 identities, minutes
    python benchmarks/samplers.py --size 1000000 --rows rows.jsonl  all, about an hour; goes on where it was stopped
    python benchmarks/samplers.py --only approximate --size 1000000 --threads 2
    python benchmarks/samplers.py --released DFGS/datasets/samplers/sampler.py --clip-reid CLIP-ReID/datasets/sampler.py

Every case is a process of its own with one thread. Features are made, one row per identity, L2-normalised: "groups" has
eight look-alikes around a centre in 64 dimensions, with a shift per camera and heavy-tailed noise; "flat" has no groups
and noise in every dimension; "domains" is four sets of such groups far apart; "pieces" has groups of 24 far apart.
A pass on more than 12,000 identities walks a made graph, 15 random neighbours among the 600 nearest numbers, because
only the walk is timed there. Eight images per identity, six cameras, 64 images in a batch, 4 of each identity. The
released classes run as they are, with stand-ins for what they import: the model gives the ready features of the
identities asked for, nothing goes to a GPU.
"""

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
from evaluation import (
    PRODUCT_WORK,
    THREADS,
    bare_product,
    describe_versions,
    faster_blas,
    peak,
    reset_peak,
)

IMAGES, CAMERAS, LATENT, GROUP = 8, 6, 64, 8
BATCH = {"batch_size": 64, "instances": 4}
EXACT, MINUTE = 12_000, 60.0
CURVE = (751, 1_041, 3_000, 6_000, 12_000, 25_000, 50_000, 100_000, 300_000, 1_000_000)
Row = dict[str, Any]


def make_features(number: int, depth: int, kind: str, seed: int = 0) -> Any:
    """Return features of `number` identities in random order, float32 (number, depth)."""
    rng = np.random.default_rng(seed)
    group = 24 if kind == "pieces" else GROUP
    centres = rng.standard_normal((number // group + 1, LATENT)).astype(np.float32) * (10 if kind == "pieces" else 1)
    if kind == "domains":
        centres += 10 * rng.standard_normal((4, LATENT)).astype(np.float32)[np.arange(len(centres)) % 4]
    projection = rng.standard_normal((LATENT, depth)).astype(np.float32)
    shift, features = 0.35 * rng.standard_normal((CAMERAS, LATENT)), np.empty((number, depth), np.float32)
    places = rng.permutation(number)
    for start in range(0, number, 8192):
        rows = places[start : start + 8192]
        if kind == "flat":
            latent = rng.standard_normal((len(rows), LATENT))
        else:
            latent = centres[rows // group] + 0.75 * rng.standard_normal((len(rows), LATENT))
            latent += shift[rng.integers(CAMERAS, size=len(rows))] + 0.7 * rng.standard_t(4, latent.shape)
        part = latent.astype(np.float32) @ projection
        if kind == "flat":
            part += 2 * rng.standard_normal(part.shape, dtype=np.float32)
        features[start : start + 8192] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return features


def make_labels(number: int) -> Any:
    """Return labels of eight images per identity in random order."""
    from dfgs.samplers.base import Labels

    rng, images = np.random.default_rng(number), number * IMAGES
    pids = rng.permutation(np.repeat(np.arange(number), IMAGES))
    return Labels(pids, rng.integers(0, CAMERAS, images), np.zeros(images, int))


def make_sampler(name: str, labels: Any, features: Any, **own: Any) -> Any:
    """Return a sampler with its features."""
    from dfgs.samplers import REGISTRY

    sampler = REGISTRY.load(name)(labels, **BATCH, **{"seed": 0} | own)
    if sampler.graph:
        sampler.set_features(identities=labels.identities, image=features)
    return sampler


def measure_exact(number: int, variant: str, library: str) -> Row:
    """Time the exact graph of the 15 nearest, 1,280 dimensions, against the product of all rows with all."""
    from dfgs.samplers._neighbours import nearest

    features = make_features(number, 1280, "groups")
    nearest([features[:300]], 15)
    bare_product(library, features, features, PRODUCT_WORK / 10)
    before = bare_product(library, features, features, 2 * PRODUCT_WORK)
    reset_peak()
    base, start = peak(), time.process_time()
    nearest([features], 15)
    seconds, memory = time.process_time() - start, peak() - base
    after = bare_product(library, features, features, 2 * PRODUCT_WORK)
    speed = (before[1] + after[1]) / (before[0] + after[0])
    ratio = seconds * speed / (2.0 * number**2 * 1280)
    return {"CPU s": seconds, "x product": ratio, "MB": memory, "note": f"product {speed / 1e9:.0f} GFLOP/s"}


def measure_approximate(number: int, variant: str, library: str) -> Row:
    """Time the approximate graph of the 15 nearest, 512 dimensions; recall on 300 identities of its own."""
    from dfgs.samplers._approximate import exact_rows, nearest_approximately
    from dfgs.samplers._neighbours import Kind

    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("dfgs").setLevel(logging.INFO)
    features = make_features(number, 512, variant)
    reset_peak()
    base, start, clock = peak(), time.process_time(), time.perf_counter()
    table, told = nearest_approximately([features], 15)
    seconds, wall, memory = time.process_time() - start, time.perf_counter() - clock, peak()
    asked = np.random.default_rng(99).permutation(number)[:300]
    right = exact_rows([Kind(features)], asked, 15)
    recall = (table[asked][:, :, None] == right[:, None]).any(axis=2).mean()
    note = f"recall@15 {recall:.3f} (told: {told:.3f}), {wall:.0f} s wall, {memory / 1024:.1f} GB with the features"
    return {"CPU s": seconds, "MB": memory - base, "note": note}


def measure_pass(number: int, variant: str, library: str) -> Row:
    """Time passes of a sampler: the first, which also groups the images, and the median of three more."""
    name, _ = variant.split()
    labels = make_labels(number)
    if name in ("dfgs", "gs") and number <= EXACT:
        features = make_features(number, 512, "groups")
    else:
        features = np.ones((number, 1), np.float32)
    sampler = make_sampler(name, labels, features, **({"neighbours": 15, "skip": 0} if name == "dfgs" else {}))
    graph = 0.0
    if sampler.graph:
        from dfgs.samplers import _extra
        from dfgs.samplers._neighbours import nearest

        _extra.FEW = 0  # the compiled loops at every size
        _extra.compiled(number)
        start = time.process_time()
        if number <= EXACT:
            table = nearest([features], 15)
            graph = time.process_time() - start
        else:
            near = np.random.default_rng(0).integers(1, 301, (number, 15)) * np.array([1, -1])[np.arange(15) % 2]
            table = ((np.arange(number)[:, None] + near) % number).astype(np.int32)
        sampler.neighbours = lambda count: table
    seconds = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        start = time.process_time()
        batches = len(sampler)
        seconds.append(time.process_time() - start)
    note = f"first {seconds[0]:.3f} s, {batches} batches" + (f", graph {graph:.2f} s (512-d)" if graph else "")
    return {"CPU s": float(np.median(seconds[1:])), "note": note}


def load_peer(path: str) -> Any:
    """Import a peer's sampler file, with stand-ins for the modules around it."""
    import torch

    package = {name: types.ModuleType(name) for name in ("peer", "peer.common", "peer.samplers")}
    for name in ("peer", "peer.samplers"):
        package[name].__path__ = []
    package["peer.common"].CommDataset = lambda items, transform, relabel: items
    transforms = types.ModuleType("torchvision.transforms")
    for name in ("Compose", "Resize", "ToTensor"):
        setattr(transforms, name, lambda *_: None)
    torchvision = types.ModuleType("torchvision")
    torchvision.transforms = transforms
    sys.modules |= package | {"torchvision": torchvision, "torchvision.transforms": transforms}
    torch.set_num_threads(1)
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.utils.data.sampler.Sampler = type("Sampler", (), {"__init__": lambda self, _: None})
    spec = importlib.util.spec_from_file_location("peer.samplers.sampler", path)
    module = importlib.util.module_from_spec(spec)
    module.print = lambda *_: None
    spec.loader.exec_module(module)
    return module


def released_pass(path: str, labels: Any, features: Any, seed: int) -> tuple[float, Any]:
    """Run one epoch of the released image sampler: CPU seconds and the images of the full batches."""
    import random

    import torch

    module, given = load_peer(path), torch.from_numpy(features)
    module.DataLoader = lambda items, **_: (
        (torch.tensor([item[1] for item in items[start : start + 128]]), None, None)
        for start in range(0, len(items), 128)
    )
    random.seed(seed)

    class Model:
        def cuda(self) -> "Model":
            return self

        eval = cuda

        def __call__(self, pids: Any) -> Any:
            return given[pids]

    columns = zip(labels.pids.tolist(), labels.camids.tolist(), strict=True)
    data = [("", pid, camid, 0) for pid, camid in columns]
    names = {pid: pid for pid in labels.identities.tolist()}
    start = time.process_time()
    sampler = module.DepthFirstGraphSampler(data, BATCH["batch_size"], BATCH["instances"], Model(), names)
    images = list(sampler)
    return time.process_time() - start, np.array(images[: len(images) // 64 * 64])


def measure_released(number: int, variant: str, path: str) -> Row:
    """Time one epoch of the released DFGS with ready features: graph and walk."""
    labels, features = make_labels(number), make_features(number, 512, "flat")
    reset_peak()
    base = peak()
    seconds, images = released_pass(path, labels, features, 0)
    share = len(np.unique(labels.pids[images])) / number
    return {"CPU s": seconds, "MB": peak() - base, "note": f"graph and walk, {100 * share:.1f} % of identities served"}


def measure_clip_reid(number: int, variant: str, path: str) -> Row:
    """Time one epoch of CLIP-ReID's PK sampler."""
    labels, module = make_labels(number), load_peer(path)
    data = [("", pid, 0, 0) for pid in labels.pids.tolist()]
    sampler = module.RandomIdentitySampler(data, BATCH["batch_size"], BATCH["instances"])
    start = time.process_time()
    images = len(list(sampler))
    return {"CPU s": time.process_time() - start, "note": f"{images // 64} batches"}


def measure_served(number: int, variant: str, path: str) -> Row:
    """Count the identities that one pass serves, over five seeds."""
    name, kind = variant.split()
    labels, shares, unserved, start = make_labels(number), [], [], time.process_time()
    for seed in range(5):
        features = make_features(number, 512, kind, seed)
        if name == "released":
            served = len(np.unique(labels.pids[released_pass(path, labels, features, seed)[1]]))
        else:
            own = {"neighbours": 10, "skip": 0} if name == "dfgs" else {}
            served = make_sampler(name, labels, features, seed=seed, **own).statistics.identities_served
        shares.append(100 * served / number)
        unserved.append(number - served)
    low, middle, high = np.quantile(shares, (0, 0.5, 1))
    note = f"least, median, most of 5: {low:.1f}, {middle:.1f}, {high:.1f} % served, up to {max(unserved)} left out"
    return {"CPU s": time.process_time() - start, "note": note}


MEASURES = {
    "exact": measure_exact,
    "approximate": measure_approximate,
    "pass": measure_pass,
    "served": measure_served,
    "released": measure_released,
    "clip-reid": measure_clip_reid,
}


def list_cases(arguments: argparse.Namespace) -> list[tuple[str, int, str]]:
    """Return measure, identities and variant of every case."""
    paths = ["compiled", "numpy"] if importlib.util.find_spec("numba") else ["numpy"]
    cases = [("exact", number, path) for number in (EXACT, 100_000) for path in paths]
    cases += [("pass", number, f"dfgs {path}") for path in paths for number in CURVE]
    cases += [("pass", number, f"pk {paths[0]}") for number in (EXACT, 100_000, 1_000_000)]
    cases += [("pass", EXACT, f"gs {paths[0]}")]
    approximate = ((100_000, "groups"), (100_000, "flat"), (300_000, "groups"), (1_000_000, "groups"))
    cases += [("approximate", *case) for case in approximate]
    samplers = ["dfgs", "released" if arguments.released else "dfgs-released"]
    cases += [("served", 3_000, f"{name} {kind}") for kind in ("flat", "pieces", "domains") for name in samplers]
    if arguments.released:
        cases += [("released", number, "") for number in CURVE]
    if arguments.clip_reid:
        cases += [("clip-reid", number, "") for number in (EXACT, 100_000)]
    names = {case: " ".join(map(str, case)) for case in cases if case[1] <= arguments.size}
    return [case for case, name in names.items() if not arguments.only or any(w in name for w in arguments.only)]


def run_case(case: tuple[str, int, str], arguments: argparse.Namespace, library: str) -> Row:
    """Measure one case in a process of its own."""
    peer = {"released": arguments.released, "served": arguments.released, "clip-reid": arguments.clip_reid}
    given = peer.get(case[0], library) or ""
    threads = arguments.threads if case[0] == "approximate" else 1
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps([*case, given])],
        env=os.environ | dict.fromkeys(THREADS, str(threads)),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {"case": list(case), "threads": threads} | json.loads(done.stdout.splitlines()[-1])


def child(text: str) -> None:
    """Measure one case in this process."""
    measure, number, variant, given = json.loads(text)
    if "numpy" in variant:
        sys.modules["dfgs.samplers._compiled"] = None  # type: ignore[assignment]
    print(json.dumps(MEASURES[measure](number, variant, given)))


def show(row: Row) -> None:
    """Print a line of the table."""
    measure, number, variant = row["case"]
    ratio, memory = (f"{row[key]:{form}}" if key in row else "" for key, form in (("x product", ".2f"), ("MB", ".0f")))
    cells = (f"{measure} {variant}".strip(), f"{number:,}", f"{row['CPU s']:.3f}", ratio, memory, row["note"])
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time graphs and passes of the samplers.")
    parser.add_argument("--size", type=int, default=EXACT, help="cases up to this number of identities")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases whose name holds one of these words")
    parser.add_argument("--released", metavar="PATH", help="datasets/samplers/sampler.py of a checkout of Qi5Lei/DFGS")
    parser.add_argument("--clip-reid", metavar="PATH", help="datasets/sampler.py of a checkout of Syliz517/CLIP-ReID")
    parser.add_argument("--threads", type=int, default=1, help="threads of the approximate graph")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep results here; cases in it do not run again")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    known: dict[str, Row] = {}
    if arguments.rows and arguments.rows.exists():
        rows = map(json.loads, arguments.rows.read_text(encoding="utf-8").splitlines())
        known = {json.dumps(row["case"]): row for row in rows}
    print(describe_versions())
    rows = make_features(4096, 1280, "flat")
    library = faster_blas(rows, rows)
    print("| case | identities | CPU s | x product | MB above the features | |\n|---|---|---|---|---|---|", flush=True)
    slow: set[str] = set()
    for case in list_cases(arguments):
        if case[0] in slow:
            continue
        row = known.get(json.dumps(case)) or run_case(case, arguments, library)
        if arguments.rows and json.dumps(case) not in known:
            with arguments.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        show(row)
        if case[0] == "released" and row["CPU s"] > MINUTE:
            slow.add("released")


if __name__ == "__main__":
    if any(name not in os.environ for name in THREADS):
        # set before numpy is imported, for this process and the cases
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))
    main()
