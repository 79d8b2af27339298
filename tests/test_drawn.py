"""The drawn world: frozen pixels, Market-1501's layout, disjoint people."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from dfgs.config import Config
from dfgs.drawn.people import BAGS, COLOURS, Wardrobe, caption, draw_people
from dfgs.drawn.world import DomainSpec, digest_corpus, digest_domain, draw_corpus, draw_domain, publish_domain
from dfgs.errors import DfgsError
from dfgs.grid import Grid
from dfgs.provenance import read_json

CONFIG = Path(__file__).parents[1] / "config" / "config.yaml"
SMALL = DomainSpec(
    seed=3,
    gap=0.3,
    cameras=3,
    train_identities=6,
    test_identities=5,
    images_per_camera=1,
    family=3,
    distractors=4,
    junk=3,
)
# Calibrated with PK alone, then frozen before any second sampler was trained on it.
FROZEN = {"drawn-a": "4bf70ba4ca584ec1", "drawn-b": "30ea53926a9703e8", "drawn-c": "9ad78ff5943c5793"}
FROZEN_CORPUS = "d19fd50b4282af3d"


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid(Config.parse(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", FROZEN)
def test_the_default_world_is_the_frozen_one(grid: Grid, name: str) -> None:
    assert digest_domain(DomainSpec(**grid.draw_job(name))) == FROZEN[name]


def test_the_default_caption_corpus_is_the_frozen_one(grid: Grid) -> None:
    recipe = grid.config.backbones["small"].pretrain
    assert recipe is not None
    assert digest_corpus(draw_corpus(recipe.seed, recipe.domains, recipe.pictures, recipe.gap)) == FROZEN_CORPUS


def test_the_same_spec_gives_the_same_pixels_and_another_seed_gives_others() -> None:
    assert digest_domain(SMALL) == digest_domain(SMALL)
    assert digest_domain(SMALL) != digest_domain(DomainSpec(**{**_fields(SMALL), "seed": 4}))


def test_more_training_people_leave_the_test_people_as_they_are() -> None:
    def query_pixels(spec: DomainSpec) -> bytes:
        return b"".join(shot.pixels.tobytes() for shot in draw_domain(spec) if shot.folder == "query")

    more = DomainSpec(**{**_fields(SMALL), "train_identities": 9})
    assert query_pixels(more) == query_pixels(SMALL)


def test_train_and_test_identities_are_disjoint_and_seen_by_two_cameras_at_least() -> None:
    cameras: dict[str, dict[str, set[str]]] = {"train": {}, "test": {}}
    for shot in draw_domain(SMALL):
        pid, camera = shot.name.split("_")[:2]
        if pid not in ("0000", "-1"):
            part = "train" if shot.folder == "bounding_box_train" else "test"
            cameras[part].setdefault(pid, set()).add(camera[:2])
    assert len(cameras["train"]) == 6
    assert len(cameras["test"]) == 5
    assert not set(cameras["train"]) & set(cameras["test"])
    assert all(len(seen) >= 2 for part in cameras.values() for seen in part.values())


def test_every_query_has_a_gallery_picture_by_another_camera() -> None:
    shots = [(*shot.name.split("_")[:2], shot.folder) for shot in draw_domain(SMALL)]
    gallery = {(pid, camera) for pid, camera, folder in shots if folder == "bounding_box_test"}
    for pid, camera, folder in shots:
        if folder == "query":
            assert any(other == pid and seen != camera for other, seen in gallery)


def test_publishing_writes_all_files_and_a_manifest_that_counts_them(tmp_path: Path) -> None:
    publish_domain(SMALL, tmp_path / "w", tmp_path / "w.json")
    manifest = read_json(tmp_path / "w.json")
    assert manifest["digest"] == digest_domain(SMALL)
    for folder, count in manifest["images"].items():
        assert len(list((tmp_path / "w" / folder).glob("*.jpg"))) == count
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w", "w.json"]


def test_publishing_replaces_what_a_killed_run_left(tmp_path: Path) -> None:
    left = tmp_path / f".w.{os.getpid()}.part" / "query"
    left.mkdir(parents=True)
    (left / "stale.jpg").touch()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "stale.jpg").touch()
    publish_domain(SMALL, tmp_path / "w", tmp_path / "w.json")
    assert not list(tmp_path.rglob("stale.jpg"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DfgsError, match="file"):
        publish_domain(SMALL, tmp_path / "file" / "w", tmp_path / "w.json")


def test_a_family_shares_its_look_and_differs_in_details() -> None:
    rng = np.random.default_rng(0)
    people = draw_people(rng, Wardrobe.draw(rng, 2.0), 40, 5)
    families: dict[str, list[str]] = {}
    for person in people:
        families.setdefault(repr(person.look), []).append(repr(person.details))
    assert len(families) < 20
    assert all(len(set(details)) == len(details) for details in families.values())


def test_a_caption_names_coarse_attributes_only() -> None:
    rng = np.random.default_rng(1)
    for person in draw_people(rng, Wardrobe.draw(rng, 5.0), 60, 1):
        text = caption(rng, person.look)
        words = set(text.replace(",", " ").replace(".", " ").split())
        named = {person.look.top, person.look.bottom, person.look.hair}
        named |= {person.look.bag_colour} if person.look.bag != "none" else set()
        assert named <= words
        assert words & set(COLOURS) <= named
        assert (person.look.bag in text) or person.look.bag == BAGS[0]
        assert not words & {"logo", "belt", "shoes", "sleeves"}


def _fields(spec: DomainSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in DomainSpec.__slots__}
