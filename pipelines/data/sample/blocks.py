"""Contents of city blocks: houses, terraces, flats, halls, farms, parks and parking lots."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipelines.data.sample.streets import TRUNK, WATER, AreaKind, Frame, Points, Site, blob, is_near, straight


@dataclass(frozen=True)
class Block:
    """The ground between four streets: a rectangle of the plan, with rows of plots along u."""

    site: Site
    frame: Frame
    low: tuple[float, float]
    high: tuple[float, float]

    def is_near(self) -> bool:
        """Return whether any of the block is visible."""
        return is_near(self.outline(), self.site.extent)

    def outline(self, grow: float = 0.0) -> Points:
        """Return the block on the ground, `grow` pixels larger on every side."""
        (left, top), (right, bottom) = self.low, self.high
        left, top, right, bottom = left - grow, top - grow, right + grow, bottom + grow
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        return self.frame.place(np.concatenate([straight(a, b, 15) for a, b in pairwise(corners)]))

    def fill(self, content: str) -> None:
        """Fill the block; `content` is a key of the blocks of a `Setting`."""
        {
            "houses": self._houses,
            "terraces": self._terraces,
            "slabs": self._slabs,
            "halls": self._halls,
            "farm": self._farm,
            "park": self._park,
            "parking": self._parking,
        }.get(content, lambda: self._open(content))()

    def _open(self, content: str) -> None:
        kinds: dict[str, AreaKind] = {"field": "field", "wood": "wood", "bare": "bare"}
        self.site.add_area(kinds[content], self._whole())

    def _whole(self) -> Points:
        """Return the block with its rim, which is wide in the country: fields meet without streets between them."""
        return self.outline(9.0 if self.site.layout.setting == "country" else 2.5)

    def _sides(self) -> list[tuple[float, float]]:
        """Return (street, direction) of each row of plots: v of the street's edge, and the side where the plots lie."""
        (_, top), (_, bottom) = self.low, self.high
        return [(top, 1.0), (bottom, -1.0)] if bottom - top > 34 else [(top, 1.0)]

    def _rectangle(self, u: float, v: float, wide: float, deep: float, way: float) -> Points:
        return self.frame.rigid((u, v), (u + wide, v + way * deep))

    def _houses(self) -> None:
        """Add detached houses in gardens, each with a drive; some have a wing, a shed or a pool."""
        rng = self.site.rng
        self.site.add_area("lawn", self.outline(2))
        plot, setback, flat = rng.uniform(17, 26), rng.uniform(4, 8), rng.random() < 0.15
        for street, way in self._sides():
            u = self.low[0] + 2
            while u + plot < self.high[0]:
                plot_now = plot * rng.uniform(0.9, 1.15)
                garden = min(34.0, (self.high[1] - self.low[1]) / len(self._sides()))
                ground = self._rectangle(u, street, plot_now, garden, way)
                self.site.add_area("garden", ground)
                if rng.random() < 0.95 and is_near(ground, self.site.extent):
                    self._house(u, street, way, plot_now, setback + rng.uniform(-1, 1), flat)
                u += plot_now

    def _house(self, u: float, street: float, way: float, plot: float, setback: float, flat: bool) -> None:
        rng = self.site.rng
        wide, deep = rng.uniform(10.5, min(plot - 4, 17)), rng.uniform(9.5, 14)
        left, front = u + rng.uniform(0, plot - wide - 3), street + way * setback
        wings = [self._rectangle(left, front, wide, deep, way)]
        if rng.random() < 0.35:
            start = left if rng.random() < 0.5 else left + wide - 6
            wings.append(self._rectangle(start, front + way * (deep - 1), 6, rng.uniform(4, 7), way))
        if not self.site.add_building(*wings, height=rng.uniform(4.5, 7), flat=flat):
            return
        drive = left + wide + 0.3
        self.site.add_area("drive", self._rectangle(drive, street - way * 3, 2.9, setback + deep * 0.8, way))
        back = front + way * (deep + rng.uniform(4, 8))
        draw = rng.random()
        if draw < 0.3:
            shed = self._rectangle(drive - 4, back, rng.uniform(4, 7), rng.uniform(4, 6), way)
            self.site.add_building(shed, height=2.5, flat=rng.random() < 0.6)
        elif draw < 0.38:
            pool = self._rectangle(left + 2, back, rng.uniform(5, 8), rng.uniform(3, 4), way)
            if self.site.is_free(pool):
                self.site.add_area("pool", pool)

    def _terraces(self) -> None:
        """Add attached town houses along the streets, with yards behind them."""
        rng = self.site.rng
        self.site.add_area("yard", self.outline(4))
        depth, setback, flat = rng.uniform(13, 19), rng.uniform(0.5, 4), rng.random() < 0.75
        wide = rng.uniform(8, 16)
        for street, way in self._sides():
            u = self.low[0]
            while u + 7 < self.high[0]:
                wide = float(np.clip(wide * rng.uniform(0.7, 1.4), 7, 26))
                house = min(wide, self.high[0] - u)
                if rng.random() < 0.93:
                    deep, front = depth + rng.uniform(-2, 3), street + way * setback
                    wings = [self._rectangle(u, front, house - 0.5, deep, way)]
                    if rng.random() < 0.3:
                        wings.append(self._rectangle(u, front + way * deep, house * 0.5, rng.uniform(3, 6), way))
                    self.site.add_building(*wings, height=rng.uniform(6, 13), flat=flat)
                u += house

    def _slabs(self) -> None:
        """Add long blocks of flats on a lawn, with parking between them."""
        rng = self.site.rng
        self.site.add_area("lawn", self.outline(3))
        (left, top), (right, bottom) = self.low, self.high
        deep, height, flat = rng.uniform(11, 15), rng.uniform(9, 16), rng.random() < 0.7
        u = left + 3
        while u + deep < right:
            slab = self.frame.rigid((u, top + 3), (u + deep, bottom - rng.uniform(3, 12)))
            if self.site.add_building(slab, height=height, flat=flat) and u + deep + 26 < right:
                self._park_cars((u + deep + 4, top - 3), (u + deep + 20, bottom - 8))
            u += deep + rng.uniform(24, 34)

    def _halls(self) -> None:
        """Add large halls on paved ground, with parking in front."""
        rng = self.site.rng
        self.site.add_area(pick(rng, "paved", "paved", "yard"), self.outline(3))
        (left, top), (right, bottom) = self.low, self.high
        u = left + 3
        while right - u > 28:
            wide = min(rng.uniform(30, 90), right - u - 3)
            lot = rng.choice([0.0, rng.uniform(17, 24)]) if bottom - top > 50 else 0.0
            wings = [self.frame.rigid((u, top + 3), (u + wide, bottom - 4 - lot))]
            if not self.site.is_free(wings[0]) and wide > 30:
                # Something crosses the block: try a smaller hall next to it.
                wide = 20.0
                wings = [self.frame.rigid((u, top + 3), (u + wide, top + 3 + 0.45 * (bottom - top)))]
            elif rng.random() < 0.4:
                annex = rng.uniform(0.25, 0.5) * wide
                wings.append(self.frame.rigid((u, bottom - 5 - lot), (u + annex, bottom - lot + 3)))
            self.site.add_building(*wings, height=rng.uniform(6, 11), flat=rng.random() < 0.85)
            if lot:
                self._park_cars((u, bottom - lot + 4), (u + wide, bottom))
            u += wide + rng.uniform(6, 14)

    def _farm(self) -> None:
        """Add a few barns and a house around a yard in the corner of a field."""
        rng = self.site.rng
        self.site.add_area("field", self._whole())
        (left, top), (right, _) = self.low, self.high
        u = rng.uniform(left, max(left, right - 80))
        self.site.add_area("yard", self.frame.rigid((u - 2, top - 4), (u + 64, top + 44)))
        for start, front, wide, deep in ((2, 2, 15, 12), (24, 3, 32, 13), (3, 22, 13, 20), (30, 26, 24, 12)):
            jitter = rng.uniform(-1.5, 1.5)
            barn = self._rectangle(u + start + jitter, top + front, wide + jitter, deep, 1.0)
            self.site.add_building(barn, height=rng.uniform(5, 8), flat=rng.random() < 0.15)

    def _park(self) -> None:
        """Add a park with paths that meet near its middle; it may have a pond or a pitch."""
        rng = self.site.rng
        undisturbed = self.site.is_free(self.outline())
        self.site.add_area("park", self._whole())
        if not undisturbed:
            return
        (left, top), (right, bottom) = self.low, self.high
        wide, deep = right - left, bottom - top
        hub = (left + wide * rng.uniform(0.35, 0.65), top + deep * rng.uniform(0.35, 0.65))
        if rng.random() < 0.5 and wide > 100:
            start = left + 6 if hub[0] > left + wide / 2 else right - 54
            self.site.add_area(
                "pitch", self.frame.rigid((start, top + deep / 2 - 15), (start + 48, top + deep / 2 + 15))
            )
        elif rng.random() < 0.5:
            pond = self.frame.place(np.array([[left + wide * rng.choice([0.2, 0.8]), top + deep / 2]]))
            self.site.add_area("water", blob(rng, pond, min(wide, deep) * rng.uniform(0.2, 0.3)))
        for end in ((left - 4, top - 4), (right + 4, top - 4), (right + 4, bottom + 4), (left - 4, bottom + 4)):
            if rng.random() < 0.75:
                path = straight(hub, end, 4)
                sway = rng.uniform(-7, 7) * np.sin(np.linspace(0, math.pi, len(path)))
                self.site.add_road("path", self.frame.place(path + sway[:, None]))

    def _parking(self) -> None:
        """Turn the complete block into a parking lot."""
        self.site.add_area("paved", self.outline(3))
        self._park_cars(self.low, self.high)

    def _park_cars(self, low: tuple[float, float], high: tuple[float, float]) -> None:
        outline = self.frame.rigid(low, high)
        if not {WATER, TRUNK} & set(self.site.values_at(outline)):
            self.site.add_area("parking", outline)


def pick(rng: np.random.Generator, *kinds: AreaKind) -> AreaKind:
    """Return one of the kinds at random; a kind that is given twice is twice as likely."""
    return kinds[int(rng.integers(len(kinds)))]
