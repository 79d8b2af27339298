"""Who is drawn: coarse attributes that a family shares and captions name, and fine ones that tell its members apart."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

Colour: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "black": (38, 38, 44),
    "white": (226, 226, 222),
    "grey": (134, 136, 140),
    "red": (188, 44, 46),
    "orange": (222, 128, 44),
    "yellow": (222, 200, 72),
    "green": (60, 136, 70),
    "blue": (50, 84, 170),
    "purple": (122, 66, 146),
    "pink": (222, 140, 164),
    "brown": (118, 80, 54),
    "beige": (200, 178, 142),
}
HAIR: dict[str, Colour] = {
    "black": (30, 26, 26),
    "brown": (92, 60, 38),
    "blond": (206, 172, 104),
    "grey": (160, 158, 156),
}
SKIN: tuple[Colour, ...] = ((244, 208, 178), (222, 176, 140), (176, 126, 92), (112, 76, 54))
LENGTHS = ("short", "long")
PATTERNS = ("plain", "striped", "checked", "dotted")
BOTTOMS = ("trousers", "shorts", "skirt")
BAGS = ("none", "backpack", "shoulder bag", "handbag")


@dataclass(frozen=True, slots=True)
class Look:
    """Coarse attributes: what a caption names and a family shares."""

    hair: str
    length: str
    top: str
    pattern: str
    bottom: str
    bottom_kind: str
    bag: str
    bag_colour: str


@dataclass(frozen=True, slots=True)
class Details:
    """Fine attributes: what tells two people of one family apart. Shifts are in grey levels, sizes relative."""

    top_shift: Colour
    bottom_shift: Colour
    pattern_colour: str
    stripe: int
    logo: str | None
    logo_colour: str
    belt: str | None
    shoes: str
    sleeve: float
    skin: int
    height: float
    width: float


@dataclass(frozen=True, slots=True)
class Wardrobe:
    """A domain's clothing distribution: probabilities over colour names, patterns, bottoms and bags."""

    tops: np.ndarray
    bottoms: np.ndarray
    patterns: np.ndarray
    kinds: np.ndarray
    bags: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, concentration: float) -> "Wardrobe":
        """Draw a clothing distribution; a small `concentration` makes a domain's fashion narrow."""
        sizes = (len(COLOURS), len(COLOURS), len(PATTERNS), len(BOTTOMS), len(BAGS))
        return cls(*(rng.dirichlet(np.full(size, concentration)) for size in sizes))

    def look(self, rng: np.random.Generator) -> Look:
        """Draw one set of coarse attributes."""
        names = tuple(COLOURS)
        return Look(
            hair=_pick(rng, tuple(HAIR)),
            length=_pick(rng, LENGTHS),
            top=_pick(rng, names, self.tops),
            pattern=_pick(rng, PATTERNS, self.patterns),
            bottom=_pick(rng, names, self.bottoms),
            bottom_kind=_pick(rng, BOTTOMS, self.kinds),
            bag=_pick(rng, BAGS, self.bags),
            bag_colour=_pick(rng, names),
        )


def draw_details(rng: np.random.Generator, look: Look) -> Details:
    """Draw the fine attributes of one person who wears `look`."""
    names = tuple(COLOURS)
    others = tuple(name for name in names if name != look.top)
    return Details(
        top_shift=_shift(rng),
        bottom_shift=_shift(rng),
        pattern_colour=_pick(rng, others),
        stripe=int(rng.integers(3, 8)),
        logo=_pick(rng, ("square", "bar", "disc")) if rng.random() < 0.5 else None,
        logo_colour=_pick(rng, others),
        belt=_pick(rng, names) if rng.random() < 0.4 else None,
        shoes=_pick(rng, names),
        sleeve=float(rng.choice([0.35, 0.65, 1.0])),
        skin=int(rng.integers(len(SKIN))),
        height=float(rng.uniform(0.9, 1.04)),
        width=float(rng.uniform(0.85, 1.25)),
    )


@dataclass(frozen=True, slots=True)
class Person:
    """One identity: coarse look and fine details."""

    look: Look
    details: Details


def draw_people(rng: np.random.Generator, wardrobe: Wardrobe, count: int, family: int) -> list[Person]:
    """Draw `count` people in families of about `family` look-alikes (half to one and a half times as many)."""
    people: list[Person] = []
    while len(people) < count:
        look = wardrobe.look(rng)
        size = int(rng.integers(max(1, family // 2), family + family // 2 + 1))
        people += [Person(look, draw_details(rng, look)) for _ in range(size)]
    return people[:count]


def caption(rng: np.random.Generator, look: Look) -> str:
    """Describe the coarse attributes in one of several wordings; fine ones are never named."""
    pattern = "" if look.pattern == "plain" else f"{look.pattern} "
    top = f"a {look.top} {pattern}{_pick(rng, ('top', 'shirt'))}"
    bottom = f"{look.bottom} {look.bottom_kind}"
    bag = f" and {_pick(rng, ('carrying', 'with'))} a {look.bag_colour} {look.bag}" if look.bag != "none" else ""
    who = _pick(rng, ("person", "pedestrian"))
    hair = f"{look.length} {look.hair} hair"
    if rng.random() < 0.5:
        return f"a photo of a {who} with {hair}, wearing {top} and {bottom}{bag}."
    return f"a {who} in {top} and {bottom}, {hair}{bag}."


def without_details(person: Person) -> Look:
    """Return what a caption can know: the look, its bag colour blanked where there is no bag."""
    return replace(person.look, bag_colour="") if person.look.bag == "none" else person.look


def _pick(rng: np.random.Generator, names: tuple[str, ...], weights: np.ndarray | None = None) -> str:
    return names[int(rng.choice(len(names), p=weights))]


def _shift(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(v) for v in rng.integers(-18, 19, 3))
    return red, green, blue
