"""Processes that compile nothing never import torch's compiler, and those that do get it whole."""

import subprocess
import sys

import pytest

STEP = """
import sys, torch
from dfgs.compiler import compiler_aside
weight = torch.nn.Parameter(torch.ones(3))
def step():
    optimiser = torch.optim.Adam([weight])
    optimiser.zero_grad()
    weight.square().sum().backward()
    optimiser.step()
    optimiser.load_state_dict(optimiser.state_dict())
"""


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", STEP + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_optimiser_steps_without_the_compiler_and_moves_its_weights_the_same() -> None:
    with_it = run("step(); print('torch._dynamo' in sys.modules, weight.tolist())")
    without = run("with compiler_aside(): step()\nprint('torch._dynamo' in sys.modules, weight.tolist())")
    assert with_it[0] == "True"
    assert without[0] == "False"
    assert without[1:] == with_it[1:]


@pytest.mark.parametrize("wanted", ["v2.ColorJitter(0.1)", "open_clip.get_tokenizer('RN50')"])
def test_transforms_and_tokenizers_come_without_the_compiler(wanted: str) -> None:
    said = run(f"from dfgs.vision import open_clip, v2\n{wanted}\nprint('torch._dynamo' in sys.modules)")
    assert said == ["False"]


def test_what_was_put_aside_still_compiles() -> None:
    code = """
with compiler_aside():
    step()
from dfgs.vision import v2
double = torch.compile(lambda x: 2 * x, backend="eager")
print(double(torch.ones(1)).item(), torch._dynamo.__spec__ is not None, v2.__name__)
"""
    assert run(code) == ["2.0", "True", "torchvision.transforms.v2"]


def test_what_the_answers_lack_is_answered_by_the_compiler_itself() -> None:
    code = """
with compiler_aside():
    step()
    import torch._dynamo
    print(callable(torch._dynamo.reset))
print(sys.modules["torch._dynamo"].__spec__.name)
double = torch.compile(lambda x: 2 * x, backend="eager")
print(double(torch.ones(1)).item())
"""
    assert run(code) == ["True", "torch._dynamo", "2.0"]


def test_a_training_that_compiles_gets_the_compiler() -> None:
    assert run("with compiler_aside(True): step()\nprint('torch._dynamo' in sys.modules)") == ["True"]


def test_torchvision_still_knows_whether_a_device_compiles() -> None:
    code = "from dfgs.vision import v2\nfrom torchvision.ops import roi_align\nprint(v2 is not None, "
    code += "sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu'), 'torch._dynamo' in sys.modules)"
    assert run(code) == ["True", "True", "True"]
