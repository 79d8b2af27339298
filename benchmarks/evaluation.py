"""What the evaluation costs beside the bare float32 product: time as a ratio, memory above the features.

    python benchmarks/evaluation.py --size market
    python benchmarks/evaluation.py --fast-reid ../fast-reid --torchreid ../deep-person-reid

Every case is a process of its own with one thread; the product is timed in it just before and just after. Features are
made: 1,280 dimensions out of 64, groups of look-alike identities, a shift per camera, heavy-tailed noise, distractors.
"untrained" means the same features with the identities of the gallery shuffled. The peers' own functions are called;
fast-reid's cosine distance (1 - x·y) is restated, because its module needs a GPU.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {
    "small": {"query": 600, "gallery": 4_000, "distractors": 500, "identities": 200, "cameras": 6},
    "market": {"query": 3_368, "gallery": 15_913, "distractors": 2_798, "identities": 750, "cameras": 6},
    "msmt17": {"query": 11_659, "gallery": 82_161, "distractors": 0, "identities": 3_060, "cameras": 15},
}
DEPTH, LATENT, GROUP = 1280, 64, 8
HEIGHT, WIDTH = 512, 4096
PRODUCT_WORK = 1.5e11
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def make_features(folder: Path, size: dict[str, int], seed: int = 0) -> None:
    """Write the features (n, 1280), pids and camids of queries and gallery."""
    rng = np.random.default_rng(seed)
    groups = rng.standard_normal((size["identities"] // GROUP + 1, LATENT))
    people = groups[np.arange(size["identities"] + 1) // GROUP] + 0.75 * rng.standard_normal(
        (size["identities"] + 1, LATENT)
    )
    shift = 0.35 * rng.standard_normal((size["cameras"], LATENT))
    projection = rng.standard_normal((LATENT, DEPTH)).astype(np.float32)
    for view, lost in (("query", 0), ("gallery", size["distractors"])):
        pids = np.concatenate([rng.integers(1, size["identities"] + 1, size[view] - lost), np.zeros(lost, np.int64)])
        camids = rng.integers(size["cameras"], size=size[view])
        centres = people[pids]
        centres[pids == 0] = groups[rng.integers(len(groups), size=lost)] + rng.standard_normal((lost, LATENT))
        latent = centres + shift[camids] + 0.7 * rng.standard_t(4, (size[view], LATENT))
        features = np.empty((size[view], DEPTH), np.float32)
        for start in range(0, size[view], 4096):
            part = slice(start, start + 4096)
            rows = latent[part].astype(np.float32) @ projection
            features[part] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for name, array in (("features", features), ("pids", pids), ("camids", camids)):
            np.save(folder / f"{view}_{name}.npy", array)


def bare_product(library: str, one: Any, other: Any, most: float = np.inf) -> tuple[float, float]:
    """Return CPU seconds and operations of the products of all rows, in blocks, stopped after `most` operations."""
    out: Any = np.empty((HEIGHT, WIDTH), np.float32)
    multiply: Callable[..., Any] = np.matmul
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        one, other, out = (torch.from_numpy(array) for array in (one, other, out))
        multiply = torch.mm
    done, start = 0.0, time.process_time()
    for column in range(0, len(other), WIDTH):
        for row in range(0, len(one), HEIGHT):
            a, b = one[row : row + HEIGHT], other[column : column + WIDTH]
            multiply(a, b.T, out=out[: len(a), : len(b)])
            done += 2.0 * len(a) * len(b) * DEPTH
            if done >= most:
                return time.process_time() - start, done
    return time.process_time() - start, done


def peak() -> float:
    """Return the process's largest memory so far, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def reset_peak() -> None:
    """Start measuring the largest memory anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def pure_module(checkout: str, name: str) -> Any:
    """Import one module of a checkout without what its packages import."""
    *packages, _ = name.split(".")
    for depth in range(1, len(packages) + 1):
        package = types.ModuleType(".".join(packages[:depth]))
        package.__path__ = [str(Path(checkout, *packages[:depth]))]
        sys.modules[package.__name__] = package
    return importlib.import_module(name)


def prepare(case: str, checkout: str) -> Callable[..., float]:
    """Return the function of a case: (query, gallery) as arrays -> mAP in percent."""
    if case.startswith(("fast-reid", "torchreid")):
        import torch

        torch.set_num_threads(1)
        if case.startswith("fast-reid"):
            ranker = pure_module(checkout, "fastreid.evaluation.rank")

            def fast_reid(query: Any, gallery: Any) -> float:
                one, other = (torch.from_numpy(view["features"]) for view in (query, gallery))
                distances = (1 - torch.mm(one, other.T)).numpy()
                labels = (query["pids"], gallery["pids"], query["camids"], gallery["camids"])
                return 100 * float(np.mean(ranker.evaluate_rank(distances, *labels)[1]))

            return fast_reid
        ranker = pure_module(checkout, "torchreid.metrics.rank")
        distance = pure_module(checkout, "torchreid.metrics.distance")

        def torchreid(query: Any, gallery: Any) -> float:
            one, other = (torch.from_numpy(view["features"]) for view in (query, gallery))
            distances = distance.compute_distance_matrix(one, other, "cosine").numpy()
            labels = (query["pids"], gallery["pids"], query["camids"], gallery["camids"])
            return 100 * float(ranker.evaluate_rank(distances, *labels)[1])

        return torchreid
    if "numpy" in case:
        sys.modules["dfgs.metrics._compiled"] = None  # type: ignore[assignment]
    from dfgs.metrics import PROTOCOLS, Embeddings, Reranking, rank, rank_reranked, summarise

    market = PROTOCOLS["market1501"]

    def ours(query: Any, gallery: Any) -> float:
        ones, others = (Embeddings(**view) for view in (query, gallery))
        if case == "re-ranking, matrix":
            distances = Reranking(ones, others).distances(np.arange(len(ones)), np.arange(len(others)))
            return float("nan") if np.isfinite(distances[0]).all() else float("inf")
        ranking = rank_reranked(ones, others, market) if "re-ranking" in case else rank(ones, others, market, "cosine")
        return summarise(ranking)["mAP"]

    return ours


def measure(case: str, folder: Path, library: str, checkout: str) -> dict[str, float]:
    """Run one case in this process."""
    query, gallery = (
        {name: np.load(folder / f"{view}_{name}.npy") for name in ("features", "pids", "camids")}
        for view in ("query", "gallery")
    )
    if "untrained" in case:
        np.random.default_rng(0).shuffle(gallery["pids"])
    run = prepare(case, checkout)
    run(*({name: array[:256] for name, array in view.items()} for view in (query, gallery)))
    rows = len(query["features"]), len(gallery["features"])
    work = 2.0 * DEPTH * (sum(rows) ** 2 if "re-ranking" in case else rows[0] * rows[1])
    bare_product(library, query["features"], gallery["features"], PRODUCT_WORK / 10)
    before = bare_product(library, query["features"], gallery["features"], PRODUCT_WORK)
    reset_peak()
    base, start = peak(), time.process_time()
    score = run(query, gallery)
    seconds, memory = time.process_time() - start, peak() - base
    after = bare_product(library, query["features"], gallery["features"], PRODUCT_WORK)
    speed = (before[1] + after[1]) / (before[0] + after[0])
    return {"mAP": score, "seconds": seconds, "ratio": seconds * speed / work, "memory": memory, "gflops": speed / 1e9}


def faster_blas(one: Any, other: Any) -> str:
    """Name the library with the faster product, torch or numpy, of those that are there."""
    speeds = {}
    for library in ("numpy", "torch"):
        try:
            bare_product(library, one, other, PRODUCT_WORK / 10)
        except ImportError:
            continue
        seconds, done = bare_product(library, one, other, PRODUCT_WORK)
        speeds[library] = done / seconds / 1e9
    print("bare product, one thread:", ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in speeds.items()))
    return max(speeds, key=lambda name: speeds[name])


def list_cases(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the cases to run, each with the checkout it needs."""
    paths = ["numpy"]
    if importlib.util.find_spec("numba"):
        paths.insert(0, "compiled")
    cases = [(f"rank, {path}, {model}", "") for model in ("trained", "untrained") for path in paths]
    cases += [("re-ranking, matrix", ""), (f"re-ranking, streamed into rank, {paths[0]}", "")]
    for peer, checkout in (("fast-reid", arguments.fast_reid), ("torchreid", arguments.torchreid)):
        if checkout:
            cases.append((peer, str(Path(checkout).resolve())))
    if arguments.only:
        cases = [case for case in cases if any(word in case[0] for word in arguments.only)]
    return cases


def describe_versions() -> str:
    """Name the versions that decide the speed."""
    found = [f"Python {platform.python_version()}"]
    for name in ("numpy", "torch", "numba"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the evaluation against the bare matrix product.")
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--fast-reid", metavar="PATH", help="checkout of JDAI-CV/fast-reid, its Cython part compiled")
    parser.add_argument("--torchreid", metavar="PATH", help="checkout of KaiyangZhou/deep-person-reid, likewise")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases whose name holds one of these words")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        case, folder, library, checkout = arguments.child
        print(json.dumps(measure(case, Path(folder), library, checkout)))
        return
    size = SIZES[arguments.size]
    print(f"{arguments.size}: {size['query']} x {size['gallery']} x {DEPTH}; {describe_versions()}")
    with tempfile.TemporaryDirectory() as folder:
        make_features(Path(folder), size)
        library = faster_blas(*(np.load(Path(folder, f"{view}_features.npy")) for view in ("query", "gallery")))
        print(
            "| case | CPU s | x product | MB above the features | mAP | GFLOP/s |\n|---|---|---|---|---|---|",
            flush=True,
        )
        for case, checkout in list_cases(arguments):
            command = [sys.executable, __file__, "--child", case, folder, library, checkout]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            score = "" if np.isnan(found["mAP"]) else f"{found['mAP']:.3f}"
            print(
                f"| {case} | {found['seconds']:.2f} | {found['ratio']:.2f} | {found['memory']:.0f} | {score} "
                f"| {found['gflops']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    missing = [name for name in THREADS if os.environ.get(name) != "1"]
    if missing:
        # set before numpy is imported, for this process and the cases
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))
    main()
