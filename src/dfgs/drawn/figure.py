"""How a person looks in a picture: polygons drawn at twice the final size with Pillow."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from dfgs.drawn.people import COLOURS, HAIR, SKIN, Colour, Person

HEIGHT, WIDTH = 64, 32
SCALE = 2
VIEWS = ("front", "back", "left", "right")


@dataclass(frozen=True, slots=True)
class Pose:
    """Viewpoint, walking phase (-1 … 1) and framing: centre and size as shares of the box."""

    view: str
    swing: float
    centre: float
    feet: float
    size: float


def draw_pose(rng: np.random.Generator, views: np.ndarray) -> Pose:
    """Draw a pose under a camera's viewpoint mix `views` (four probabilities)."""
    return Pose(
        view=VIEWS[int(rng.choice(len(VIEWS), p=views))],
        swing=float(rng.uniform(-1, 1)),
        centre=float(0.5 + rng.normal(0, 0.035)),
        feet=float(0.97 + rng.normal(0, 0.02)),
        size=float(0.9 * (1 + rng.normal(0, 0.04))),
    )


def draw_person(canvas: Image.Image, person: Person, pose: Pose) -> None:
    """Draw `person` onto an RGB canvas of any size, in place."""
    _Sketch(canvas, person, pose).draw()


class _Sketch:
    """One drawing: body coordinates (x sideways from the spine, y up from the feet, 1 = full height) to pixels."""

    def __init__(self, canvas: Image.Image, person: Person, pose: Pose) -> None:
        self.pen = ImageDraw.Draw(canvas)
        self.look, self.details, self.pose = person.look, person.details, pose
        width, height = canvas.size
        self.unit = height * pose.size * person.details.height
        self.x0, self.y0 = pose.centre * width, pose.feet * height
        self.is_side = pose.view in ("left", "right")
        self.facing = -1 if pose.view == "left" else 1
        self.half = (0.075 if self.is_side else 0.115) * person.details.width
        self.top = _shifted(COLOURS[self.look.top], self.details.top_shift)
        self.bottom = _shifted(COLOURS[self.look.bottom], self.details.bottom_shift)
        self.skin = SKIN[self.details.skin]

    def draw(self) -> None:
        if self.look.bag == "backpack" and self.is_side:
            self._bag()
        self._legs()
        self._arm(-1)
        self._torso()
        self._head()
        self._arm(1)
        if self.look.bag != "none" and not (self.look.bag == "backpack" and self.is_side):
            self._bag()

    def _box(self, left: float, low: float, right: float, high: float, colour: Colour) -> None:
        x = sorted((self.x0 + left * self.unit, self.x0 + right * self.unit))
        self.pen.rectangle((x[0], self.y0 - high * self.unit, x[1], self.y0 - low * self.unit), fill=colour)

    def _shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.pen.polygon([(self.x0 + x * self.unit, self.y0 - y * self.unit) for x, y in points], fill=colour)

    def _disc(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        cx, cy, rx, ry = self.x0 + x * self.unit, self.y0 - y * self.unit, radius_x * self.unit, radius_y * self.unit
        self.pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=colour)

    def _legs(self) -> None:
        spread = 0.09 * self.pose.swing if self.is_side else 0.015 * self.pose.swing
        stance = 0.0 if self.is_side else 0.5 * self.half
        thick = 0.05 * self.details.width
        bare_from = {"trousers": 0.04, "shorts": 0.27, "skirt": 0.25}[self.look.bottom_kind]
        for side in (-1, 1):
            hip, foot = side * stance, side * (stance + spread)
            middle = hip + (foot - hip) * (1 - bare_from / 0.48)
            skin_shape = [
                (middle - thick * 0.8, bare_from),
                (middle + thick * 0.8, bare_from),
                (foot + thick * 0.6, 0.03),
                (foot - thick * 0.6, 0.03),
            ]
            self._shape(skin_shape, self.skin)
            self._shape(
                [(hip - thick, 0.5), (hip + thick, 0.5), (middle + thick, bare_from), (middle - thick, bare_from)],
                self.bottom,
            )
            toe = 0.035 * self.facing if self.is_side else 0.0
            self._box(
                foot - thick * 0.8 + min(toe, 0),
                0.0,
                foot + thick * 0.8 + max(toe, 0),
                0.04,
                COLOURS[self.details.shoes],
            )
        if self.look.bottom_kind == "skirt":
            flare = self.half * 1.25
            self._shape([(-self.half, 0.5), (self.half, 0.5), (flare, 0.26), (-flare, 0.26)], self.bottom)
        else:
            self._box(-self.half * 0.95, 0.43, self.half * 0.95, 0.5, self.bottom)

    def _torso(self) -> None:
        shoulder = self.half * (1.0 if self.is_side else 1.12)
        self._shape([(-self.half, 0.47), (self.half, 0.47), (shoulder, 0.8), (-shoulder, 0.8)], self.top)
        self._pattern()
        if self.details.belt is not None:
            self._box(-self.half, 0.47, self.half, 0.495, COLOURS[self.details.belt])
        if self.details.logo is not None and self.pose.view == "front":
            self._logo(self.details.logo)

    def _pattern(self) -> None:
        colour, step = COLOURS[self.details.pattern_colour], self.details.stripe * 0.012
        half = self.half * 0.95
        rows = np.arange(0.5, 0.78, 2 * step)
        columns = np.arange(-half + step / 2, half, 2 * step)
        if self.look.pattern in ("striped", "checked"):
            for y in rows:
                self._box(-half, y, half, min(y + step, 0.79), colour)
        if self.look.pattern == "checked":
            for x in columns:
                self._box(x, 0.5, min(x + step * 0.6, half), 0.79, colour)
        if self.look.pattern == "dotted":
            for y in rows:
                for x in columns:
                    self._disc(x, y, step * 0.55, step * 0.55, colour)

    def _logo(self, logo: str) -> None:
        colour = COLOURS[self.details.logo_colour]
        if logo == "square":
            self._box(-0.045, 0.62, 0.045, 0.71, colour)
        elif logo == "bar":
            self._box(-self.half * 0.8, 0.64, self.half * 0.8, 0.68, colour)
        else:
            self._disc(0.045, 0.71, 0.03, 0.03, colour)

    def _arm(self, side: int) -> None:
        sway = 0.08 * self.pose.swing * side * (1.0 if self.is_side else 0.25)
        x = 0.0 if self.is_side else side * (self.half * 1.12 + 0.015)
        thick = 0.028 * self.details.width
        cut = 0.79 - 0.33 * self.details.sleeve
        bend = x + sway * self.details.sleeve
        self._shape(
            [(x - thick, 0.79), (x + thick, 0.79), (x + sway + thick * 0.7, 0.43), (x + sway - thick * 0.7, 0.43)],
            self.skin,
        )
        self._shape(
            [(x - thick, 0.79), (x + thick, 0.79), (bend + thick, cut), (bend - thick, cut)],
            _shifted(self.top, (-14, -14, -14)),
        )

    def _head(self) -> None:
        hair = HAIR[self.look.hair]
        self._box(-0.025, 0.79, 0.025, 0.84, self.skin)
        if self.look.length == "long" and self.pose.view != "front":
            shift = -0.02 * self.facing if self.is_side else 0.0
            self._shape(
                [(shift - 0.06, 0.92), (shift + 0.06, 0.92), (shift + 0.065, 0.74), (shift - 0.065, 0.74)], hair
            )
        elif self.look.length == "long":
            self._box(-0.07, 0.77, 0.07, 0.92, hair)
        self._disc(0, 0.91, 0.055, 0.07, self.skin)
        if self.pose.view == "back":
            self._disc(0, 0.915, 0.058, 0.07, hair)
        elif self.is_side:
            self._disc(-0.022 * self.facing, 0.925, 0.045, 0.062, hair)
        self._disc(0, 0.955, 0.056, 0.035, hair)

    def _bag(self) -> None:
        colour = COLOURS[self.look.bag_colour]
        if self.look.bag == "backpack":
            if self.is_side:
                back = -self.facing * self.half
                self._box(back - self.facing * 0.075, 0.55, back + self.facing * 0.02, 0.77, colour)
            elif self.pose.view == "back":
                self._box(-self.half * 0.8, 0.55, self.half * 0.8, 0.77, colour)
            else:
                for side in (-1, 1):
                    self._box(side * self.half * 0.75 - 0.013, 0.58, side * self.half * 0.75 + 0.013, 0.8, colour)
        elif self.look.bag == "shoulder bag":
            side = 1 if self.pose.view in ("front", "right") else -1
            self._shape(
                [
                    (-side * self.half, 0.8),
                    (-side * self.half * 0.7, 0.8),
                    (side * self.half, 0.5),
                    (side * self.half * 0.8, 0.48),
                ],
                colour,
            )
            self._box(side * self.half * 0.7, 0.4, side * (self.half * 0.7 + 0.09), 0.53, colour)
        else:
            side = 1 if self.pose.view in ("front", "right") else -1
            x = side * (0.05 if self.is_side else self.half * 1.2)
            self._box(x - 0.05, 0.3, x + 0.05, 0.42, colour)


def _shifted(colour: Colour, shift: Colour) -> Colour:
    red, green, blue = (min(255, max(0, c + s)) for c, s in zip(colour, shift, strict=True))
    return red, green, blue
