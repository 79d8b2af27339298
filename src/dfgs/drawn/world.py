"""Domains of the drawn world: datasets in Market-1501's layout, and the caption corpus of the small CLIP."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dfgs.drawn.camera import Camera, Mood, Pixels
from dfgs.drawn.people import Person, Wardrobe, caption, draw_people, without_details
from dfgs.images import DECODED
from dfgs.provenance import whole_folder, write_json

TRAIN, TEST, QUERY = "bounding_box_train", "bounding_box_test", "query"
CAMERA_SHARE = 0.75
"""How likely a person passes a camera."""


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """Size and look of one drawn dataset; `gap` (0 … 1) is its distance from a neutral camera."""

    seed: int
    gap: float
    cameras: int
    train_identities: int
    test_identities: int
    images_per_camera: int
    family: int
    distractors: int
    junk: int


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a drawn dataset: folder, file name in Market-1501's form, pixels (64, 32, 3) uint8."""

    folder: str
    name: str
    pixels: Pixels


def draw_domain(spec: DomainSpec) -> Iterator[Shot]:
    """Draw a dataset, picture by picture, in a fixed order; the same spec gives the same pixels.

    Training identities come first (1 …), test identities after them; no look family is in both. Of each test
    identity one picture per camera is a query, the others are the gallery, as in Market-1501; distractors (id 0)
    show other people, junk boxes (id -1) badly framed parts of test people.
    """
    rng = np.random.default_rng([spec.seed, 0])
    wardrobe, mood = Wardrobe.draw(rng, 4.0), Mood.draw(rng, spec.gap)
    cameras = [Camera.draw(rng, mood) for _ in range(spec.cameras)]
    # A generator for each part: more training people leave the test people as they are.
    rng = np.random.default_rng([spec.seed, 1])
    train = draw_people(rng, wardrobe, spec.train_identities, spec.family)
    for number, person in enumerate(train, start=1):
        yield from _shoot_person(rng, cameras, person, number, spec.images_per_camera, is_test=False)
    rng = np.random.default_rng([spec.seed, 2])
    test = draw_people(rng, wardrobe, spec.test_identities, spec.family)
    for number, person in enumerate(test, start=1 + len(train)):
        yield from _shoot_person(rng, cameras, person, number, spec.images_per_camera, is_test=True)
    others = draw_people(rng, wardrobe, max(1, spec.distractors // 2), spec.family)
    for number in range(spec.distractors):
        yield _shoot_extra(rng, cameras, others[number % len(others)], "0000", number)
    for number in range(spec.junk):
        shot = _shoot_extra(rng, cameras, test[number % len(test)], "-1", number)
        yield Shot(shot.folder, shot.name, _badly_framed(rng, shot.pixels))


def publish_domain(spec: DomainSpec, root: Path, manifest: Path) -> None:
    """Write a drawn dataset to the folder `root`, whole or not at all, and its counts and digest to `manifest`.

    The manifest of an earlier dataset goes before that dataset does: where there is one, the folder is whole and its.
    """
    with whole_folder(root, manifest) as partial:
        digest, counts = _write(spec, partial)
    write_json(manifest, {"digest": digest, "images": counts, "spec": asdict(spec)})


def _write(spec: DomainSpec, root: Path) -> tuple[str, dict[str, int]]:
    """Write JPEG files below `root`; return the digest of their pixels (before JPEG) and the images per folder."""
    digest, counts = hashlib.sha256(), dict.fromkeys((TRAIN, TEST, QUERY), 0)
    for folder in counts:
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / DECODED).mkdir()
    for shot in tqdm(draw_domain(spec), desc=f"drawing {root.name}", unit=" images", disable=None):
        digest.update(shot.name.encode() + shot.pixels.tobytes())
        counts[shot.folder] += 1
        (root / shot.folder / shot.name).write_bytes(_jpeg(shot.pixels))
    return digest.hexdigest()[:16], counts


def _jpeg(pixels: Pixels) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95, subsampling=0)
    return data.getvalue()


def differing_files(spec: DomainSpec, root: Path) -> tuple[str, list[str]]:
    """Draw a domain anew; return the digest of its pixels, and the files below `root` that are not as drawn.

    A file that is missing, or there though it was not drawn, differs too. JPEG files are compared byte by byte, so
    another version of Pillow than the one that wrote them may find all of them different.
    """
    folders = [root / name for name in (TRAIN, TEST, QUERY)]
    there = {path.relative_to(root).as_posix() for folder in folders for path in folder.rglob("*") if path.is_file()}
    digest = hashlib.sha256()
    wrong = []
    for shot in draw_domain(spec):
        digest.update(shot.name.encode() + shot.pixels.tobytes())
        name = f"{shot.folder}/{shot.name}"
        if name not in there or (root / name).read_bytes() != _jpeg(shot.pixels):
            wrong.append(name)
        there.discard(name)
    return digest.hexdigest()[:16], sorted({*wrong, *there})


def digest_domain(spec: DomainSpec) -> str:
    """Return the digest of a domain's pixels without writing anything."""
    digest = hashlib.sha256()
    for shot in draw_domain(spec):
        digest.update(shot.name.encode() + shot.pixels.tobytes())
    return digest.hexdigest()[:16]


def digest_corpus(corpus: "Corpus") -> str:
    """Return the digest of a corpus: pixels and captions."""
    return hashlib.sha256(corpus.pixels.tobytes() + "\n".join(corpus.captions).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Captioned pictures of many domains: pixels (n, 64, 32, 3) uint8, n captions, n looks as keys of distinctness."""

    pixels: Pixels
    captions: list[str]
    looks: list[str]


def draw_corpus(seed: int, domains: int, pictures: int, gap: float) -> Corpus:
    """Draw a caption corpus: every picture shows another person, in one of `domains` domains of random gap up to `gap`.

    Seeds of the corpus never meet those of the datasets: the generator's key has another length.
    """
    pixels, captions, looks = [], [], []
    for domain in range(domains):
        rng = np.random.default_rng([seed, domain, 1])
        wardrobe = Wardrobe.draw(rng, 3.0)
        mood = Mood.draw(rng, gap * float(rng.random()))
        cameras = [Camera.draw(rng, mood) for _ in range(4)]
        for person in draw_people(rng, wardrobe, _share(pictures, domains, domain), 1):
            pixels.append(cameras[int(rng.integers(len(cameras)))].shoot(rng, [person]))
            captions.append(caption(rng, person.look))
            looks.append(repr(without_details(person)))
    return Corpus(np.stack(pixels), captions, looks)


def _share(total: int, parts: int, part: int) -> int:
    return total // parts + (part < total % parts)


def _shoot_person(
    rng: np.random.Generator, cameras: list[Camera], person: Person, pid: int, per_camera: int, *, is_test: bool
) -> Iterator[Shot]:
    """Each person passes two cameras at least; a test person's first picture of a camera is a query."""
    passed = rng.random(len(cameras)) < CAMERA_SHARE
    passed[rng.choice(len(cameras), 2, replace=False)] = True
    for camera in np.flatnonzero(passed):
        for frame in range(per_camera + 1 if is_test else per_camera + int(rng.integers(0, 2))):
            folder = TRAIN if not is_test else QUERY if frame == 0 else TEST
            name = f"{pid:04d}_c{camera + 1}s1_{frame:06d}_00.jpg"
            yield Shot(folder, name, cameras[camera].shoot(rng, [person]))


def _shoot_extra(rng: np.random.Generator, cameras: list[Camera], person: Person, pid: str, number: int) -> Shot:
    camera = int(rng.integers(len(cameras)))
    return Shot(TEST, f"{pid}_c{camera + 1}s1_{number:06d}_00.jpg", cameras[camera].shoot(rng, [person]))


def _badly_framed(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Shift the person out of the box by a quarter to half of its height."""
    return np.roll(pixels, int(rng.integers(16, 33)), axis=0)
