"""Options and arguments that several commands share."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dfgs.errors import DfgsError

FILE = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)


class _Json(click.ParamType[Any]):
    """JSON on the command line."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)


JSON = _Json()

job_option = click.option("--job", type=JSON, required=True, help="The resolved job, as the workflow prints it.")


def _workers(context: click.Context, parameter: click.Parameter, count: int) -> int:
    """Refuse more processes than there are cores for them."""
    cores = len(os.sched_getaffinity(0))
    if count > cores:
        raise DfgsError(f"--workers {count}: this job may use {cores} cores; give at most {cores}")
    return count


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    callback=_workers,
    help="Processes that load images.",
)


def _deterministic(context: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    """Let torch use only algorithms that give the same bits twice; cuBLAS reads its variable when it is first used."""
    if is_wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        import torch

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def device_option(command: Command) -> Command:
    """Add `--device`, and `--deterministic`, which needs nothing of the command."""
    strict = click.option(
        "--deterministic",
        is_flag=True,
        expose_value=False,
        callback=_deterministic,
        help="On a GPU: the same bits in every run, at some cost; on the CPU they are anyway.",
    )
    where = click.option(
        "--device", default="auto", show_default=True, help="cpu, cuda, or auto: cuda where there is one."
    )
    return strict(where(command))


def leaves_at_once(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that keeps no state end as preempted at the very signal that asks it to leave."""

    @functools.wraps(command)
    def leaving(**values: Any) -> None:
        from dfgs.runs.signals import leaving_at_once

        with leaving_at_once():
            command(**values)

    return leaving


def rhythm_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that tell how often a state is kept, and hand the command the `rhythm` that they make.

    They are no part of a job, since they decide no result.
    """

    @click.option(
        "--checkpoint-minutes",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        help="Keep a resume state this often; 0: never.",
    )
    @click.option(
        "--checkpoint-steps",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Keep a resume state after so many steps too; 0: not.",
    )
    @functools.wraps(command)
    def keeping(checkpoint_minutes: float, checkpoint_steps: int, **values: Any) -> None:
        from dfgs.runs.signals import noticed

        with noticed() as notice:
            from dfgs.training.checkpoints import Rhythm

            command(**values, rhythm=Rhythm(checkpoint_minutes, checkpoint_steps, notice))

    return keeping


products_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where blocks are multiplied: cpu (NumPy), cuda, or auto: cuda where there is one.",
)

of_option = click.option("--of", "view", help="DATASET/SPLIT of an index.json that holds several.")

protocol_option = click.option(
    "--protocol",
    default="market1501",
    show_default=True,
    help="market1501, cuhk03-new, single-gallery-shot or plain.",
)

distance_option = click.option(
    "--distance",
    type=click.Choice(["cosine", "euclidean", "dot"]),
    help="Default: cosine for a file, for an index.json what its model is tested with.",
)

stem_option = click.option(
    "--out", "stem", type=FILE, required=True, help="The figure is written to OUT.png, OUT.pdf and OUT.svg."
)


def attempted(stage: str, *outputs: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a stage hold the `outputs` (names of its arguments) while it runs, and record the attempt."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            from dfgs.runs.attempts import attempt

            with attempt(stage, arguments["job"], [arguments[name] for name in outputs]) as is_needed:
                if is_needed:
                    command(**arguments)

        return run

    return decorate


def find_products(name: str) -> Any:
    """Return what makes blocks of products on the device called `name`; None for the CPU, where NumPy does it."""
    if name == "cpu":
        return None
    device = find_device(name)
    from dfgs.products import DeviceProducts

    return None if device.type == "cpu" else DeviceProducts(device)


def find_device(name: str) -> Any:
    """Return the torch device called `name`; `DfgsError` where it is not to be had."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise DfgsError(f"--device {name!r} is not known; use cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise DfgsError(f"--device cuda: torch {torch.__version__} finds no CUDA device here; use --device cpu")
    return torch.device(name)
