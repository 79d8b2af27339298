"""Foreign weight files: OpenAI's layout goes in as open_clip reads it, hostile files are refused and run nothing."""

import io
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dfgs.config import BackboneSettings
from dfgs.errors import DfgsError
from dfgs.models import conversion
from dfgs.models.clip import build_clip, random_clip
from dfgs.models.conversion import convert_weights, fetch_weights
from dfgs.models.torchscript import read_torchscript
from dfgs.models.weights import fetched, read_facts
from dfgs.vision import open_clip

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:Detected pickle protocol")
# OpenAI's layout fixes heads at width / 64, which its state dict does not tell.
TINY = {
    "embed_dim": 12,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}
NAME = "openai-tiny-quickgelu"
PLAIN = "openai-tiny"


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("architectures")
    (folder / f"{NAME}.json").write_text(json.dumps(TINY))
    (folder / f"{PLAIN}.json").write_text(json.dumps(TINY | {"quick_gelu": False}))
    open_clip.add_model_config(folder)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fetched weights are looked for in a folder of the test, and conversion stays in this process.

    Another process would not know the tiny architecture; that it has no network has a test of its own.
    """
    monkeypatch.setenv("DFGS_WEIGHTS", str(tmp_path / "fetched"))

    def convert(command: list[str], **_: Any) -> Any:
        job = json.loads(command[-1])
        try:
            conversion._convert(Path(job["source"]), Path(job["output"]), job["known"])
        except DfgsError as error:
            return Done(2, str(error))
        return Done(0, "")

    monkeypatch.setattr(conversion, "subprocess", Local(convert))


class Local:
    """`subprocess` for the converter, but nothing is started."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run = run


class Done:
    def __init__(self, returncode: int, stderr: str) -> None:
        self.returncode, self.stderr = returncode, stderr


def backbone(pretrained: Path | str | None, size: tuple[int, int] = (32, 32), **changes: Any) -> BackboneSettings:
    values = {"architecture": NAME, "input_size": size, "stride": None, "last_stride": 2, "pretrain": None}
    return BackboneSettings.model_validate(
        {**values, "pretrained": None if pretrained is None else str(pretrained), **changes}
    )


@pytest.fixture(scope="module")
def clip(_tiny: None) -> Any:
    """A tiny CLIP with random weights that no seed of `build_clip` draws."""
    return random_clip(NAME, seed=99).eval()


def state_of(clip: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in clip.state_dict().items()}


class Holder(nn.Module):
    """A part of OpenAI's module tree: children and parameters by name, for `torch.jit.script`."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def archive(state: dict[str, Tensor], path: Path, gelu: nn.Module | None = None) -> Path:
    """Save a state dict as OpenAI publishes it: a scripted module tree, facts of the model as buffers, the mask too."""
    root = Holder()
    for name, tensor in state.items():
        owner = root
        *parts, last = name.split(".")
        for part in parts:
            if part not in dict(owner.named_children()):
                owner.add_module(part, Holder())
            owner = owner.get_submodule(part)  # type: ignore[assignment]
        owner.register_parameter(last, nn.Parameter(tensor.half(), requires_grad=False))
    root.add_module("gelu", gelu or QuickGELU())
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(value))
    root.register_buffer("attn_mask", torch.zeros(77, 77))
    torch.jit.save(torch.jit.script(root), str(path))
    return path


@torch.no_grad()
def test_openais_archive_gives_the_features_that_open_clip_reads_from_it(clip: Any, tmp_path: Path) -> None:
    source = archive(state_of(clip), tmp_path / "ViT.pt")
    convert_weights(source, tmp_path / "vit.safetensors", {})
    facts = json.loads((tmp_path / "vit.json").read_text())
    assert facts.pop("weights")
    assert facts == {"architecture": NAME, "quick_gelu": True, "input_size": [32, 32], "stride": 8}
    ours = build_clip(backbone(tmp_path / "vit.safetensors"), None)
    given = torch.jit.load(str(source)).state_dict()
    given = {name: tensor for name, tensor in given.items() if name != "attn_mask"}
    theirs = open_clip.model.build_model_from_openai_state_dict(given, cast_dtype=torch.float32).float()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    words = open_clip.tokenize(["A photo of a person.", "red"])
    torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.encode_text(words), theirs.encode_text(words), rtol=1e-4, atol=1e-5)
    plain = build_clip(backbone(None, architecture=PLAIN), None)
    plain.load_state_dict(ours.state_dict())
    assert not torch.allclose(plain.encode_image(images), ours.encode_image(images), atol=1e-4)


def test_our_reader_finds_what_torch_jit_load_finds(clip: Any, tmp_path: Path) -> None:
    path = archive(state_of(clip), tmp_path / "a.pt")
    found, classes = read_torchscript(path)
    expected = torch.jit.load(str(path)).state_dict()
    assert found.keys() == expected.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in expected.items()
    )
    assert {"Holder", "QuickGELU"} <= classes


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "wrapped.pt"])
def test_a_state_dict_goes_in_as_it_is(clip: Any, tmp_path: Path, suffix: str) -> None:
    path, state = tmp_path / f"w.{suffix}", state_of(clip)
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}} if "wrapped" in suffix else state, path)
    loaded = build_clip(backbone(path), None).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_converted_state_dict_needs_to_be_told_its_activation(clip: Any, tmp_path: Path) -> None:
    torch.save(state_of(clip), tmp_path / "w.pt")
    output = tmp_path / "out.safetensors"
    with pytest.raises(DfgsError, match=r"do not tell their activation; give --activation quickgelu or gelu$"):
        convert_weights(tmp_path / "w.pt", output, {})
    assert not output.exists()
    convert_weights(tmp_path / "w.pt", output, {"quick_gelu": False})
    facts = read_facts(output)
    assert facts is not None
    assert facts.architecture == PLAIN


def test_an_archive_contradicts_a_wrong_activation(clip: Any, tmp_path: Path) -> None:
    path = archive(state_of(clip), tmp_path / "a.pt")
    with pytest.raises(DfgsError, match=r"were trained with QuickGELU, --activation says GELU; leave it out$"):
        convert_weights(path, tmp_path / "o.safetensors", {"quick_gelu": False})


def converted(clip: Any, folder: Path, **known: Any) -> Path:
    torch.save(state_of(clip), folder / "w.pt")
    convert_weights(folder / "w.pt", folder / "w.safetensors", {"quick_gelu": True, **known})
    return folder / "w.safetensors"


def test_weights_of_another_activation_are_refused_naming_both(clip: Any, tmp_path: Path) -> None:
    path = converted(clip, tmp_path)
    with pytest.raises(
        DfgsError, match=r"trained with QuickGELU, architecture openai-tiny computes GELU; take .* with "
    ):
        build_clip(backbone(path, architecture=PLAIN), None)


@pytest.mark.parametrize("facts", [True, False])
def test_weights_of_a_third_input_size_or_stride_are_refused_naming_both(tmp_path: Path, facts: bool) -> None:
    made = build_clip(backbone(None, (64, 32)), None)
    if facts:
        path = converted(made, tmp_path, input_size=[64, 32])
        size, stride = (
            r"made at 64×32 pixels and stride 8, .* asks for 48×24 pixels and stride 8$",
            r"asks for 64×32 .* 6$",
        )
    else:
        save_file(state_of(made), path := tmp_path / "w.safetensors")
        size = r"hold 32 positions, the configuration has 18 at 48×24 pixels and stride 8; .* \(32×32 .* stride 8\)"
        stride = r"hold 32 positions, the configuration has 50 at 64×32 pixels and stride 6"
    assert torch.equal(
        build_clip(backbone(path, (64, 32)), None).visual.positional_embedding, made.visual.positional_embedding
    )
    with pytest.raises(DfgsError, match=size):
        build_clip(backbone(path, (48, 24)), None)
    with pytest.raises(DfgsError, match=stride):
        build_clip(backbone(path, (64, 32), stride=6), None)


def test_equal_counts_of_positions_do_not_hide_another_shape(tmp_path: Path) -> None:
    path = converted(build_clip(backbone(None, (64, 16)), None), tmp_path, input_size=[64, 16])
    with pytest.raises(DfgsError, match=r"made at 64×16 pixels .* asks for 16×64 pixels"):
        build_clip(backbone(path, (16, 64)), None)


def test_weights_of_the_own_size_are_resized_to_any(clip: Any, tmp_path: Path) -> None:
    path = converted(clip, tmp_path)
    assert build_clip(backbone(path, (64, 32), stride=4), None).visual.positional_embedding.shape == (1 + 15 * 7, 64)


def test_facts_of_another_file_are_refused(clip: Any, tmp_path: Path) -> None:
    path = converted(clip, tmp_path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(DfgsError, match=r"w\.json describes other weights than .*w\.safetensors; convert them again$"):
        build_clip(backbone(path), None)
    path.with_suffix(".json").write_text('{"architecture": "x"}')
    with pytest.raises(DfgsError, match=r"w\.json: quick_gelu: Field required; write it anew"):
        build_clip(backbone(path), None)


# Tags, and the network


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Block every socket, and list who asked for one."""
    asked: list[str] = []

    def refuse(*_: Any, **__: Any) -> Any:
        asked.append("socket")
        raise AssertionError("a job asked for the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return asked


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let open_clip know weights `openai` of the tiny architecture."""
    pretrained = open_clip.pretrained._PRETRAINED
    for name in (NAME, PLAIN):
        monkeypatch.setitem(pretrained, name, {"openai": {"url": "nowhere", "hf_hub": "no/where/", "quick_gelu": True}})


@pytest.mark.usefixtures("tagged")
def test_a_tag_that_was_not_fetched_is_refused_and_no_job_asks_the_network(offline: list[str]) -> None:
    with pytest.raises(
        DfgsError, match=rf"'openai' of {NAME} are not at .*, .* run once, .*: dfgs fetch-weights {NAME} op"
    ):
        build_clip(backbone("openai"), None)
    with pytest.raises(DfgsError, match=rf"no weights 'openia' for {NAME} \(did you mean 'openai'\?\)$"):
        build_clip(backbone("openia"), None)
    with pytest.raises(DfgsError, match=r"no weights 'openai' for RN101-quickgelu|are not at .*RN101-quickgelu"):
        build_clip(backbone("openai", architecture="RN101-quickgelu"), None)
    assert not offline


@pytest.mark.usefixtures("tagged")
def test_a_fetched_tag_is_found_without_the_network(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    save_file(state_of(clip), tmp_path / "hub.safetensors")
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(tmp_path / "hub.safetensors"))
    path = fetch_weights(NAME, "openai")
    assert path == fetched(NAME, "openai")
    assert not offline
    monkeypatch.delattr(open_clip.factory, "download_pretrained")
    loaded = build_clip(backbone("openai", (64, 32)), None)
    assert torch.equal(loaded.visual.proj, clip.visual.proj)
    with pytest.raises(
        DfgsError, match=rf"weights 'openai' were trained with QuickGELU, architecture {PLAIN} computes"
    ):
        fetch_weights(PLAIN, "openai")


def test_a_failed_download_is_one_line(tagged: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", fail)
    with pytest.raises(DfgsError, match=rf"^cannot fetch 'openai' of {NAME}: [^\n]*no route$"):
        fetch_weights(NAME, "openai")


def test_the_converting_process_has_no_network() -> None:
    code = conversion.ALONE.split("from dfgs.models")[0] + (
        "import socket\n"
        "for ask in (lambda: socket.create_connection(('127.0.0.1', 9)), lambda: socket.getaddrinfo('localhost', 1),\n"
        "            lambda: socket.socket()):\n"
        "    try:\n        ask()\n    except PermissionError as error:\n        print(error)\n"
    )
    done = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert done.splitlines() == ["this process may not use the network"] * 3


# Hostile files


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


class Sleeper(nn.Module):
    """Loading it with `torch.jit.load` creates a file: TorchScript runs its `__setstate__`."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.mark, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.mark, self.training = state
        if torch.from_file(self.mark, shared=True, size=8).numel() != 8:
            self.mark = ""

    def forward(self, x: Tensor) -> Tensor:
        return x


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], offsets: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


def zipped(folder: str, files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archived:
        for name, data in files.items():
            archived.writestr(f"{folder}/{name}", data)
    return stream.getvalue()


def saved(value: Any, **how: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


def scripted(module: nn.Module) -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(module), stream)
    return stream.getvalue()


def with_half_storage(data: bytes) -> bytes:
    """The same archive with half of its first storage, and checksums that agree."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            new.writestr(item.filename, content[: len(content) // 2] if item.filename.endswith("/data/0") else content)
    return stream.getvalue()


def changed(state: dict[str, Tensor], **changes: Tensor | None) -> bytes:
    """A `.pt` of the state with entries replaced, added or (None) left out."""
    both = {**state, **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return saved({name: tensor for name, tensor in both.items() if tensor is not None})


Make = Callable[[dict[str, Tensor], Path], bytes]
NO_CODE = "it is more than tensors, or damaged; nothing in it was run"
HOSTILE: dict[str, tuple[Make, str]] = {
    "a pickle payload in a .pt": (lambda s, m: saved({**s, "x": Payload(m)}), NO_CODE),
    "a pickle payload in an old .pt": (
        lambda s, m: saved({**s, "x": Payload(m)}, _use_new_zipfile_serialization=False),
        NO_CODE,
    ),
    "a bare pickle payload": (lambda s, m: pickle.dumps(Payload(m)), NO_CODE),
    "a pickle payload in a TorchScript archive": (
        lambda s, m: zipped("a", {"data.pkl": pickle.dumps(Payload(m), protocol=2), "constants.pkl": b"\x80\x02)."}),
        r"it asks for (posix|nt)\.mkdir, which no weights need; nothing in it was run",
    ),
    "TorchScript that runs when it is loaded": (lambda s, m: scripted(Sleeper(str(m))), "is not a tree of attributes"),
    "a compressed TorchScript archive": (
        lambda s, m: zipped(
            "a", {"data.pkl": b"\x80\x02}." + bytes(10**6), "constants.pkl": b"."}, zipfile.ZIP_DEFLATED
        ),
        r"entry a/data.pkl is compressed",
    ),
    "a TorchScript archive whose storage is cut": (
        lambda s, m: with_half_storage(scripted(nn.Linear(8, 8))),
        "the archive is damaged: storage 0 holds 32 numbers, expected 64",
    ),
    "a header longer than the file": (
        lambda s, m: safetensors_bytes({"a": entry([1], [0, 4])}, bytes(4), 2**20),
        "eader",
    ),
    "a header of 2⁶⁰ bytes": (lambda s, m: safetensors_bytes({"a": entry([1], [0, 4])}, bytes(4), 2**60), "eader"),
    "overlapping tensors": (
        lambda s, m: safetensors_bytes({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12)),
        "ffset",
    ),
    "a tensor beyond the end": (lambda s, m: safetensors_bytes({"a": entry([9], [0, 36])}, bytes(4)), "etadata|ffset"),
    "a header that is no JSON": (lambda s, m: safetensors_bytes(b"{not json at all}", bytes(4)), "eader"),
    "a truncated .pt": (lambda s, m: saved(s)[:-5000], "the archive is damaged or cut short"),
    "a truncated safetensors file": (
        lambda s, m: safetensors_bytes({"a": entry([99], [0, 396])}, bytes(40)),
        "ncomplete|etadata",
    ),
    "a web page": (
        lambda s, m: b"<!DOCTYPE html><title>404</title>",
        "it begins with b'<!DOCTYPE html><'; expected a safe",
    ),
    "an empty file": (lambda s, m: b"", "the file is empty; expected a safetensors file"),
    "a list": (lambda s, m: saved([1, 2]), r"hold a list, expected tensors by name"),
    "a number among the tensors": (
        lambda s, m: saved({**s, "epoch": 3}),
        r"hold a int called 'epoch', expected tensors",
    ),
    "another shape": (
        lambda s, m: changed(s, visual__proj=torch.zeros(3, 4)),
        r"1 of another shape: visual.proj \(file \(3, 4\), model \(64, 12\)\)",
    ),
    "a tensor of a million million numbers": (
        lambda s, m: changed(s, visual__proj=torch.zeros(1).expand(10**6, 10**6)),
        r"1 of another shape: visual.proj \(file \(1000000, 1000000\)",
    ),
    "another type": (
        lambda s, m: changed(s, visual__proj=torch.zeros(64, 12, dtype=torch.int64)),
        "1 of another type: visual.proj",
    ),
    "unknown entries": (
        lambda s, m: changed(s, a=torch.zeros(1), b=torch.zeros(1)),
        "2 unknown: a, b$",
    ),
    "missing entries": (
        lambda s, m: changed(s, logit_scale=None, ln_final__bias=None),
        "2 missing: ln_final.bias, logit_scale$",
    ),
    "weights that are not finite": (
        lambda s, m: changed(s, logit_scale=torch.tensor(float("nan"))),
        "1 tensors are not finite: logit_scale$",
    ),
}
NEEDS_CONVERTING = {name for name in HOSTILE if "TorchScript" in name}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_file_is_refused_in_one_line_and_runs_nothing(clip: Any, tmp_path: Path, name: str) -> None:
    make, reason = HOSTILE[name]
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    path.write_bytes(make(state_of(clip), mark))
    before = path.read_bytes()
    with pytest.raises(DfgsError, match=rf"^[^\n]*{reason}[^\n]*$"):
        convert_weights(path, tmp_path / "out.safetensors", {"quick_gelu": True})
    direct = (
        "TorchScript archive; convert them once|archive is damaged|begins with" if name in NEEDS_CONVERTING else reason
    )
    with pytest.raises(DfgsError, match=rf"^[^\n]*weights [^\n]*({direct})[^\n]*$"):
        build_clip(backbone(path), None)
    assert sorted(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """What the tests above refuse does create a file where it is loaded carelessly."""
    (tmp_path / "p.pt").write_bytes(saved({"x": Payload(tmp_path / "one")}))
    torch.load(tmp_path / "p.pt", weights_only=False)
    torch.jit.load(io.BytesIO(scripted(Sleeper(str(tmp_path / "two")))))
    assert {"one", "two"} <= {path.name for path in tmp_path.iterdir()}


def test_weights_of_another_architecture_say_what_they_are(clip: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(state_of(random_clip("dfgs-small")), path)
    with pytest.raises(DfgsError, match=r"into CLIP: \d+ missing: .*, …; \d+ unknown: visual\.attnpool"):
        build_clip(backbone(path), None)
    state = {name: tensor for name, tensor in state_of(clip).items() if "text_projection" not in name}
    torch.save(state, path)
    with pytest.raises(DfgsError, match="no CLIP model in OpenAI's layout: text_projection is missing"):
        convert_weights(path, tmp_path / "o.safetensors", {"quick_gelu": True})


@pytest.mark.parametrize("how", ["missing", "folder", "loop"])
def test_a_path_that_is_no_file_is_named(tmp_path: Path, how: str) -> None:
    path = tmp_path / "w.safetensors"
    if how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path)
    with pytest.raises(DfgsError, match=r"^cannot read weights .*w\.safetensors: [^\n]+$"):
        build_clip(backbone(path), None)


def test_an_output_of_another_name_is_refused_before_anything_is_written(clip: Any, tmp_path: Path) -> None:
    torch.save(state_of(clip), tmp_path / "w.pt")
    with pytest.raises(DfgsError, match=r"OUT is .*out\.pt; expected a name that ends with \.safetensors"):
        convert_weights(tmp_path / "w.pt", tmp_path / "out.pt", {"quick_gelu": True})
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_converted_weights_keep_every_bit(clip: Any, tmp_path: Path) -> None:
    state = state_of(clip)
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(converted(clip, tmp_path)).items())


def test_conversion_runs_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for good and once for bad, with an architecture that ships with the package."""
    monkeypatch.setattr(conversion, "subprocess", subprocess)
    state = state_of(random_clip("dfgs-small", seed=3))
    torch.save(state, tmp_path / "w.pt")
    convert_weights(tmp_path / "w.pt", tmp_path / "o.safetensors", {"quick_gelu": False})
    loaded = build_clip(backbone(tmp_path / "o.safetensors", (64, 64), architecture="dfgs-small"), None)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in state.items())
    (tmp_path / "bad.pt").write_bytes(scripted(Sleeper(str(tmp_path / "mark"))))
    with pytest.raises(DfgsError, match=r"^cannot read weights .*bad\.pt: [^\n]+$"):
        convert_weights(tmp_path / "bad.pt", tmp_path / "bad.safetensors", {})
    assert {path.name for path in tmp_path.iterdir()} == {"w.pt", "o.safetensors", "o.json", "bad.pt"}
