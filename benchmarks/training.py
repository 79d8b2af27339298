"""What a step of training costs: stage 2, stage 1 and extraction, beside CLIP-ReID's own loop in the same run.

    python benchmarks/training.py [--device auto] [--only WORD ...] [--steps 30] [--workers N] [--out FILE.md]

Every case is a process of its own, ours and then `plain_loop.py`'s, on the same made JPEG files with random weights.
With a GPU the towers are ViT-B/16; without one the small CLIP is measured on the CPU, one thread, both in float32, and
the GPU's rows stay empty. "of peak": the model's multiplications beside what one large product reaches just before, in
bf16 (CPU: float32). Waiting is the share of the time in which no batch was there. On a CPU seconds are those of the
process, without workers.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from training_cases import Bench, Case, Row, cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--only", nargs="*", default=[], help="Words that a case's name must hold.")
    parser.add_argument("--steps", type=int, default=30, help="Steps measured, after as many before.")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--workers", type=int, help="8 with a GPU, 0 without.")
    parser.add_argument("--out", type=Path, help="Also write the table there.")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        side, settings = json.loads(arguments.case)
        print(json.dumps(asdict(measure(side, Case(**settings), arguments))))
        return
    lines = table(arguments)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(arguments: argparse.Namespace) -> list[str]:
    """Measure case after case and print the rows as they come."""
    has_gpu = find_device(arguments.device).type == "cuda"
    name = torch.cuda.get_device_name() if has_gpu else "CPU, one thread"
    lines = [f"{name}; torch {torch.__version__}; {arguments.steps} steps; {time.strftime('%d %B %Y')}", ""]
    lines += [] if has_gpu else ["No GPU here: its rows are empty.", ""]
    lines += [
        "| case | images/s | × plain | of peak | peak GB | waiting | sampler | start-up s | plain: images/s | waiting |"
    ]
    lines += ["| --- " * 10 + "|"]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_files(Path(folder), arguments.images)
        beside: dict[Case, Row] = {}
        for case in cases(has_gpu):
            if not all(word in case.name for word in arguments.only):
                continue
            if case.plain not in beside:
                beside[case.plain] = run("plain", case, arguments, folder)
            lines.append(formatted(case, run("ours", case, arguments, folder), beside[case.plain]))
            print(lines[-1], flush=True)
    for case in [] if has_gpu else cases(True):
        lines.append(f"| {case.name} |" + "  |" * 9)
    return lines


def run(side: str, case: Case, arguments: argparse.Namespace, folder: str) -> Row:
    """Measure one side of a case in a process of its own; its start-up counts from here."""
    again = [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--case", json.dumps([side, asdict(case)])]
    settings = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if case.deterministic else {}
    settings |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    began = time.time()
    done = subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | settings)
    row = Row(**json.loads(done.stdout.splitlines()[-1]))
    return replace(row, started=row.started - began)


def formatted(case: Case, ours: Row, plain: Row) -> str:
    speed, beside = ours.images / ours.seconds, plain.images / plain.seconds
    share = f"{speed * ours.flops / ours.peak:.1%}" if ours.flops else ""
    cells = [case.name, f"{speed:.0f}", f"{speed / beside:.2f}", share, f"{ours.memory:.1f}"]
    cells += [f"{part / ours.seconds:.1%}" for part in (ours.waited, ours.sampler)]
    cells += [f"{ours.started:.1f}", f"{beside:.0f}", f"{plain.waited / plain.seconds:.1%}"]
    return "| " + " | ".join(cells) + " |"


def draw_files(folder: Path, count: int) -> None:
    """Write smooth coloured JPEG files of 256×128 with some noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)).resize((128, 256))
        pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-8, 9, (256, 128, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.jpg", quality=90)


def measure(side: str, case: Case, arguments: argparse.Namespace) -> Row:
    """Measure one side of a case in this process."""
    logging.disable(logging.WARNING)  # open_clip warns of random weights, which are what is wanted
    device = find_device(arguments.device)
    torch.use_deterministic_algorithms(case.deterministic)
    workers = arguments.workers if arguments.workers is not None else 8 if device.type == "cuda" else 0
    return Bench(case, sorted(arguments.folder.glob("*.jpg")), device, workers, arguments.steps).row(side)


def find_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


if __name__ == "__main__":
    main()
