"""The map of query, curated and gallery samples: neighbours stay together, and the picture is safe and repeatable."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from reinforce.curate.tsne import project
from reinforce.curate_pages.map_plot import Layer, MapPlotter, Role

HOSTILE = ("</svg><script>alert('x')</script>", '" onload="alert(1)', "a & b", "_小 \udcff\x00", "$x^2$", "y" * 300, "")
SVG = "{http://www.w3.org/2000/svg}"


def around(centres: np.ndarray, per_centre: int, noise: float, seed: int = 0) -> np.ndarray:
    """(len(centres) * per_centre, D) float16 unit vectors."""
    rng = np.random.default_rng(seed)
    spread = np.repeat(centres, per_centre, axis=0) + rng.normal(0, noise, (len(centres) * per_centre, len(centres.T)))
    return (spread / np.linalg.norm(spread, axis=1, keepdims=True)).astype(np.float16)


class TestProjection:
    def test_clusters_stay_apart(self) -> None:
        """Every cluster's radius is less than half its distance to the nearest other."""
        places = project(around(np.eye(32)[:3], 24, noise=0.08), seed=0).reshape(3, 24, 2)
        centres = places.mean(axis=1)
        radii = np.linalg.norm(places - centres[:, None], axis=2).max(axis=1)
        distances = np.linalg.norm(centres[:, None] - centres, axis=2) + np.diag([np.inf] * 3)
        assert (radii < 0.5 * distances.min(axis=1)).all()

    def test_equal_vectors_and_seeds_give_equal_places(self) -> None:
        vectors = around(np.eye(8)[:3], 12, noise=0.1)
        assert (project(vectors, seed=5) == project(vectors.copy(), seed=5)).all()

    def test_length_of_vectors_does_not_matter(self) -> None:
        """Distances are of directions: several encoders' rows are longer than one."""
        vectors = around(np.eye(16)[:2], 15, noise=0.1).astype(np.float32)
        lengths = np.linspace(1, 3, 30)[:, None].astype(np.float32)
        places = project(vectors * lengths, seed=0)
        is_left = places[:, 0] < places[:, 0].mean()
        assert is_left[:15].all() ^ is_left[15:].all()

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 12, 91])
    @pytest.mark.parametrize("width", [1, 2, 24])
    def test_any_number_of_samples_has_finite_places(self, count: int, width: int) -> None:
        rng = np.random.default_rng(count)
        vectors = rng.normal(size=(count, width))
        places = project(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), seed=0)
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()

    @pytest.mark.parametrize("copies", [3, 4, 40])
    def test_copies_are_no_obstacle(self, copies: int) -> None:
        vectors = around(np.eye(6)[:1], 1, noise=0.0).repeat(copies, axis=0)
        assert (project(vectors, seed=0) == 0).all()
        beside = np.concatenate([vectors, around(np.eye(6)[1:2], 5, noise=0.1)])
        assert np.isfinite(project(beside, seed=0)).all()


@pytest.fixture(scope="module")
def plotter() -> MapPlotter:
    return MapPlotter("a test")


def layers(label: str = "set", counts: tuple[int, int, int] = (4, 9, 60)) -> list[Layer]:
    rng = np.random.default_rng(0)
    roles = (Role.QUERY, Role.CURATED, Role.GALLERY)
    return [Layer(role=role, label=f"{label} {role.name.lower()}", places=rng.normal(size=(count, 2)) * 40)
            for role, count in zip(roles, counts, strict=True)]  # fmt: skip


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


def dots(svg: str, variable: str) -> list[int]:
    """Places in the document of the dots of a colour."""
    uses = list(parsed(svg).iter(f"{SVG}use"))
    return [number for number, use in enumerate(uses) if f"var(--{variable})" in use.get("style", "")]


class TestPlot:
    def test_every_sample_is_a_dot_in_the_pages_colours(self, plotter: MapPlotter) -> None:
        svg = plotter.draw(layers(), title="where samples lie")
        for variable, count in (("series-2", 4), ("series-1", 9), ("faint", 60)):
            assert len(dots(svg, variable)) == count + 1  # and one in the legend
        for word in ("set query (4)", "set curated (9)", "set gallery (60)", 'aria-label="where samples lie"'):
            assert word in svg
        assert "fill-opacity" in svg
        assert "#0" not in svg.replace("&#0", "")  # no stand-in colour is left
        assert len(parsed(svg).findall(f".//{SVG}text")) == 3  # no ticks

    def test_queries_lie_on_top_in_whatever_order_they_come(self, plotter: MapPlotter) -> None:
        svg = plotter.draw(layers(), title="t")
        assert plotter.draw(layers()[::-1], title="t") == svg
        gallery, curated, query = (dots(svg, variable)[:-1] for variable in ("faint", "series-1", "series-2"))
        assert max(gallery) < min(curated)
        assert max(curated) < min(query)

    @pytest.mark.parametrize("label", HOSTILE)
    def test_odd_labels_are_text(self, plotter: MapPlotter, label: str) -> None:
        svg = plotter.draw(layers(label), title=label)
        root = parsed(str(svg).encode("utf-8", "replace").decode().replace("\x00", ""))
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {"svg", "g", "path", "defs", "use", "text",
                                                                             "clipPath", "rect"}  # fmt: skip
        assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)

    @pytest.mark.parametrize("counts", [(0, 0, 0), (1, 0, 0), (0, 1, 500), (2, 2, 2)])
    def test_any_counts_can_be_drawn(self, plotter: MapPlotter, counts: tuple[int, int, int]) -> None:
        root = parsed(plotter.draw(layers(counts=counts), title="t"))
        assert len(list(root.iter(f"{SVG}use"))) == sum(counts) + 3
        parsed(plotter.draw([], title="t"))

    def test_samples_at_one_place_can_be_drawn(self, plotter: MapPlotter) -> None:
        place: Any = np.zeros((5, 2))
        svg = plotter.draw([Layer(role=Role.GALLERY, label="g", places=place)], title="t")
        assert "nan" not in svg.lower()
