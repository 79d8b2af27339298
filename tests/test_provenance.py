"""Files appear whole or not at all; digests depend on content only; commit and versions are known."""

import errno
import hashlib
import json
import os
import re
import stat
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from dfgs import provenance
from dfgs.errors import DfgsError
from dfgs.provenance import (
    VERSIONED,
    commit,
    digest_file,
    digest_json,
    guarded,
    read_json,
    versions,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def test_a_reader_sees_the_earlier_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "numbers.txt"
    write_text(path, "old")
    with path.open() as reader:
        with whole_file(path) as partial:
            partial.write_text("new")
            assert path.read_text() == "old"
            assert partial.parent == path.parent
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["numbers.txt"]


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    write_text(path, "old")

    def fail() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("numbers.txt", "old")]


def test_file_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    with guarded(lambda path: calls.append(f"asked for {path.name}")):
        write_text(tmp_path / "x", "new")
    assert calls == ["file", "asked for x", "rename", "asked for x", "folder"]


def test_a_guard_holds_in_every_thread_and_only_within_its_block(tmp_path: Path) -> None:
    asked: list[Path] = []
    with guarded(asked.append):
        thread = threading.Thread(target=write_text, args=(tmp_path / "x", "new"))
        thread.start()
        thread.join()
    assert asked == [tmp_path / "x"] * 2
    write_text(tmp_path / "y", "new")
    assert len(asked) == 2


def test_a_full_disk_tells_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    def write(error: OSError, need: int | None) -> None:
        with whole_file(tmp_path / "x", need) as partial:
            partial.write_bytes(b"12345")
            raise error

    def fail(error: OSError, need: int | None) -> str:
        with pytest.raises(DfgsError) as caught:
            write(error, need)
        return str(caught.value)

    full = OSError(errno.ENOSPC, "No space left on device")
    assert re.fullmatch(
        rf"cannot write {tmp_path}/x: No .* device; it needs 99 bytes and \d+ are free .*", fail(full, 99)
    )
    assert "; it needs more than 5 bytes and " in fail(full, None)
    assert "No space left on device; it needs more than 5 " in fail(OSError("900 requested and 5 written"), None)
    assert fail(OSError(errno.EIO, "Input/output error"), 99).endswith("error; check the folder and its free space")


def test_a_folder_appears_whole_and_its_description_goes_before_the_earlier_one(tmp_path: Path) -> None:
    folder, manifest = tmp_path / "world", tmp_path / "world.json"
    for version in ("one", "two"):
        with whole_folder(folder, manifest) as partial:
            (partial / "deep").mkdir(parents=True)
            (partial / "deep" / version).touch()
            assert manifest.exists() == (version == "two")
        assert not manifest.exists()
        manifest.touch()
        assert [path.name for path in folder.rglob("*")] == ["deep", version]

    def fail() -> None:
        with whole_folder(folder, manifest) as partial:
            partial.mkdir()
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert manifest.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world", "world.json"]


def test_a_folder_whose_new_one_was_cleared_away_meanwhile_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    (folder / "earlier").touch()

    def write() -> None:
        with whole_folder(folder, tmp_path / "world.json"):
            pass  # as if somebody had removed the temporary folder

    with pytest.raises(DfgsError, match=r"cannot write .*world: No such file or directory"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["world", "earlier"]


def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DfgsError, match=r"^cannot write .*file/numbers\.json: [^\n]+; check the folder") as caught:
        write_json(tmp_path / "file" / "numbers.json", {})
    assert "\n" not in str(caught.value)


def test_json_reads_back_and_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"b": [1, 2.5, None], "a": "ü"})
    write_json(tmp_path / "two.json", {"a": "ü", "b": [1, 2.5, None]})
    assert read_json(tmp_path / "one.json") == {"a": "ü", "b": [1, 2.5, None]}
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_number_that_json_lacks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "one.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [None, "", "{", b"\xff"])
def test_a_missing_or_damaged_json_file_is_named(tmp_path: Path, text: str | bytes | None) -> None:
    path = tmp_path / "record.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DfgsError, match=r"cannot read .*record\.json"):
        read_json(path)


def test_the_digest_of_a_value_is_blind_to_the_order_of_keys_only() -> None:
    value = {"a": 1, "b": {"c": [1, 2]}}
    assert digest_json(value) == digest_json({"b": {"c": [1, 2]}, "a": 1})
    text = json.dumps(value, sort_keys=True).replace(" ", "")
    assert digest_json(value) == hashlib.sha256(text.encode()).hexdigest()[:16]
    others = [{"a": 2, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [2, 1]}}, {"a": "1", "b": {"c": [1, 2]}}]
    assert len({digest_json(other) for other in [value, *others]}) == 4


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "weights").write_bytes(data)
    assert digest_file(tmp_path / "weights") == hashlib.sha256(data).hexdigest()[:16]


def test_the_commit_is_that_of_the_checkout_and_a_plus_marks_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *settings, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    git("tag", "-a", "v1", "-m", "one")
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", tmp_path)
    assert commit.__wrapped__() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "file").write_text("two")
    assert commit.__wrapped__() == git("rev-parse", "HEAD")[:12] + "+"


def test_without_a_checkout_or_without_git_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", tmp_path)
    assert commit.__wrapped__() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.__wrapped__() == "unknown"


def test_the_versions_name_every_package_that_can_change_a_number() -> None:
    found = dict(part.split("=") for part in versions().split(" "))
    assert tuple(found) == VERSIONED
    assert all(re.match(r"\d+\.", number) for number in found.values())
