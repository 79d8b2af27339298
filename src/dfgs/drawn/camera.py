"""How a camera changes a picture: its own background, colour cast, gamma, blur, noise and mix of viewpoints."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dfgs.drawn.figure import HEIGHT, SCALE, WIDTH, draw_person, draw_pose
from dfgs.drawn.people import Person

Pixels: TypeAlias = np.ndarray


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera. `cast` is a gain per channel, `offset` grey levels, `blur` pixels, `noise` grey levels (sd)."""

    scene: Image.Image
    cast: tuple[float, float, float]
    offset: float
    gamma: float
    blur: float
    noise: float
    views: np.ndarray
    occlusion: float

    @classmethod
    def draw(cls, rng: np.random.Generator, mood: "Mood") -> "Camera":
        """Draw a camera of a domain: the domain's `mood` plus the camera's own deviation."""
        gains = np.asarray(mood.cast) * np.exp(rng.normal(0, 0.05, 3))
        return cls(
            scene=_draw_scene(rng),
            cast=(float(gains[0]), float(gains[1]), float(gains[2])),
            offset=float(mood.offset + rng.normal(0, 4)),
            gamma=float(mood.gamma * np.exp(rng.normal(0, 0.08))),
            blur=float(max(0.0, mood.blur + rng.normal(0, 0.15))),
            noise=float(max(1.0, mood.noise + rng.normal(0, 1))),
            views=rng.dirichlet(np.full(4, 1.2)),
            occlusion=float(rng.uniform(0.02, 0.12)),
        )

    def shoot(self, rng: np.random.Generator, people: list[Person]) -> Pixels:
        """Take one picture of `people` (the last is in front), shape (64, 32, 3), uint8."""
        canvas = self._background(rng)
        for person in people:
            draw_person(canvas, person, draw_pose(rng, self.views))
        if rng.random() < self.occlusion:
            _occlude(rng, canvas)
        return self._develop(rng, canvas.reduce(SCALE))

    def _background(self, rng: np.random.Generator) -> Image.Image:
        left = int(rng.integers(0, self.scene.width - WIDTH * SCALE + 1))
        top = int(rng.integers(0, self.scene.height - HEIGHT * SCALE + 1))
        return self.scene.crop((left, top, left + WIDTH * SCALE, top + HEIGHT * SCALE))

    def _develop(self, rng: np.random.Generator, image: Image.Image) -> Pixels:
        light = float(np.exp(rng.normal(0, 0.06)))
        level = (np.arange(256) / 255.0) ** self.gamma
        curves = [np.clip(255 * light * gain * level + self.offset, 0, 255).round() for gain in self.cast]
        image = Image.fromarray(np.array(curves, np.uint8)[np.arange(3), np.asarray(image)])
        if self.blur > 0.05:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        noisy = np.asarray(image, dtype=np.float32) + self.noise * rng.standard_normal(
            (HEIGHT, WIDTH, 3), dtype=np.float32
        )
        return np.clip(noisy.round(), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Mood:
    """What the cameras of one domain have in common; all of it grows with the domain gap."""

    cast: tuple[float, float, float]
    offset: float
    gamma: float
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator, gap: float) -> "Mood":
        """Draw a domain's mood; `gap` = 0 is a neutral camera, 1 a strong cast, gamma, blur and noise."""
        gains = np.exp(gap * rng.normal(0, 0.25, 3))
        sign = 1.0 if rng.random() < 0.5 else -1.0
        return cls(
            cast=(float(gains[0]), float(gains[1]), float(gains[2])),
            offset=float(gap * rng.uniform(-25, 25)),
            gamma=float(np.exp(gap * sign * rng.uniform(0.2, 0.5))),
            blur=float(0.3 + gap * rng.uniform(0, 0.7)),
            noise=float(3 + gap * rng.uniform(0, 9)),
        )


def _draw_scene(rng: np.random.Generator) -> Image.Image:
    """A wall, a floor and some furniture, somewhat larger than a box so that framing shifts it."""
    width, height = WIDTH * SCALE * 2, HEIGHT * SCALE + 24
    wall, floor = (_muted(rng) for _ in range(2))
    scene = Image.new("RGB", (width, height), wall)
    pen = ImageDraw.Draw(scene)
    horizon = int(height * rng.uniform(0.45, 0.8))
    pen.rectangle((0, horizon, width, height), fill=floor)
    for _ in range(int(rng.integers(4, 10))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(4, width / 3), rng.uniform(4, height / 2)
        pen.rectangle((x, y, x + w, y + h), fill=_muted(rng))
    return scene.filter(ImageFilter.GaussianBlur(1.5))


def _occlude(rng: np.random.Generator, canvas: Image.Image) -> None:
    """Hide the legs or one side behind a bar."""
    colour = _muted(rng)
    pen, (width, height) = ImageDraw.Draw(canvas), canvas.size
    if rng.random() < 0.5:
        pen.rectangle((0, height * rng.uniform(0.62, 0.85), width, height), fill=colour)
    else:
        edge = width * rng.uniform(0.15, 0.35)
        pen.rectangle((0, 0, edge, height) if rng.random() < 0.5 else (width - edge, 0, width, height), fill=colour)


def _muted(rng: np.random.Generator) -> tuple[int, int, int]:
    """A colour of low saturation, as walls and streets have."""
    grey = int(rng.integers(60, 200))
    red, green, blue = (int(v) for v in np.clip(grey + rng.integers(-35, 36, 3), 0, 255))
    return red, green, blue
