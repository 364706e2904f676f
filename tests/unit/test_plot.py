"""The picture: the same bytes each time, something drawn for every case, no label on another."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
import threading
import zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from bot import plot
from bot.plot import Point, draw, pareto
from bot.publication import Publication, PublishedVariant
from bot.receipt import read_receipt

GOLDEN = Path(__file__).parent / "cards" / "phi-3.5-gguf.json"


@pytest.fixture
def publication() -> Publication:
    return read_receipt(GOLDEN.read_bytes())


def variant(base: PublishedVariant, **changes: Any) -> PublishedVariant:
    """`base` with another title, preset, size (bytes) or mean KL."""
    file = base.files[0].model_copy(update={"size": changes.pop("size", base.files[0].size)})
    kl = changes.pop("kl", base.fidelity.kl_mean)
    fidelity = base.fidelity.model_copy(update={"kl_mean": kl})
    return base.model_copy(update={"files": (file,), "fidelity": fidelity, **changes})


def with_variants(publication: Publication, *variants: PublishedVariant) -> Publication:
    return publication.model_copy(update={"variants": variants})


def chunks(png: bytes) -> list[bytes]:
    """The kinds of the chunks of a PNG, checked against their checksums."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        body = png[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(body)
        found.append(body[:4])
        at += 12 + length
    return found


def label_boxes(publication: Publication, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Where every text of the figure (title and labels) was finally drawn."""
    figures: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            figures.append(self)

    monkeypatch.setattr(plot, "Figure", Kept)
    draw(publication)
    (figure,) = figures
    return [(text.get_text(), text.get_window_extent()) for text in figure.texts]


def test_the_same_publication_gives_the_same_bytes(publication: Publication) -> None:
    assert draw(publication) == draw(publication.model_copy())


def test_the_order_of_the_variants_does_not_matter(publication: Publication) -> None:
    assert draw(publication) == draw(with_variants(publication, *reversed(publication.variants)))


def test_a_png_holds_no_text_and_no_time(publication: Publication) -> None:
    assert set(chunks(draw(publication))) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_the_background_is_opaque_so_that_both_themes_can_show_it(publication: Publication) -> None:
    pixels = imread(io.BytesIO(draw(publication)))
    assert pixels.shape[2] == 3 or float(pixels[:, :, 3].min()) == 1.0
    assert float(pixels[0, 0, :3].min()) > 0.9


def test_drawing_does_not_load_pyplot() -> None:
    check = "import sys, bot.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_two_threads_draw_what_one_draws(publication: Publication) -> None:
    expected, drawn = draw(publication), []
    threads = [threading.Thread(target=lambda: drawn.append(draw(publication))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [expected] * 3


def test_labels_cover_neither_each_other_nor_the_edge(
    publication: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = publication.variants[2]
    crowd = [
        variant(base, title=f"Q4_{name}", size=size, kl=kl)
        for name, size, kl in [
            ("0", 3_660_000, 2.42e-3),
            ("1", 3_870_000, 1.6e-3),
            ("XS", 3_490_000, 2.06e-3),
        ]
    ]
    boxes = label_boxes(with_variants(publication, *publication.variants, *crowd), monkeypatch)
    assert len(boxes) == 11
    for (_, one), (_, other) in combinations(boxes, 2):
        assert not one.overlaps(other)
    for _, box in boxes:
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= 8 * 144
        assert box.y1 <= 4.8 * 144


def test_one_variant_is_enough(publication: Publication) -> None:
    assert chunks(draw(with_variants(publication, publication.variants[0])))


def test_no_variant_is_an_empty_frame(publication: Publication) -> None:
    assert chunks(draw(with_variants(publication)))


def test_a_kl_of_zero_stands_below_all_others_and_says_so(
    publication: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, other = variant(publication.variants[0], kl=0.0), publication.variants[1]
    boxes = dict(label_boxes(with_variants(publication, exact, other), monkeypatch))
    assert boxes["FP16 (KL 0)"].y0 < boxes["Q8_0"].y0


@pytest.mark.parametrize("kl", [0.0, -1e-12, 1e-300, 1e-9, 5.0])
def test_any_single_distance_can_be_drawn(publication: Publication, kl: float) -> None:
    assert chunks(draw(with_variants(publication, variant(publication.variants[0], kl=kl))))


@pytest.mark.parametrize("kl", [math.nan, math.inf])
def test_a_distance_that_is_no_number_is_left_out(publication: Publication, kl: float) -> None:
    broken = variant(publication.variants[0], kl=kl, title="broken")
    assert draw(with_variants(publication, publication.variants[1], broken)) == draw(
        with_variants(publication, publication.variants[1])
    )


@pytest.mark.parametrize("size", [0, 1, 999_999_999, 58_640_000_000])
def test_any_size_can_be_drawn(publication: Publication, size: int) -> None:
    assert chunks(draw(with_variants(publication, variant(publication.variants[0], size=size))))


@pytest.mark.parametrize("title", ["$x^{", "\\frac{1}{0}$", "a" * 500, "日本語", "x\ny\x00", "", "%s{}"])
def test_a_hostile_title_is_drawn_as_text(publication: Publication, title: str) -> None:
    assert chunks(draw(with_variants(publication, variant(publication.variants[0], title=title))))


def test_recommended_cookbook_and_other_look_different(publication: Publication) -> None:
    pictures = {
        draw(with_variants(publication, variant(publication.variants[0], preset=preset)))
        for preset in ("recommended", "cookbook", "ladder")
    }
    assert len(pictures) == 3
    assert len({look[:2] for look in plot.LOOKS.values()}) == len(plot.LOOKS)


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("INT4, calibrated (Q4_K_M)", "Q4_K_M"),
        ("BF16, the source's own weights", "BF16"),
        ("FP16", "FP16"),
        ("", ""),
    ],
)
def test_a_label_is_the_short_name_in_a_title(title: str, label: str) -> None:
    assert plot.short(title) == label


def point(size: float, kl: float) -> Point:
    return Point(label="", preset="ladder", size=size, kl=kl, height=kl)


def test_the_pareto_front_holds_only_what_nothing_else_beats() -> None:
    small, large, worse, tie = point(1, 0.1), point(3, 0.01), point(2, 0.2), point(1, 0.15)
    assert pareto([large, worse, tie, small]) == [small, large]


def test_the_pareto_front_of_equals_is_one_of_them() -> None:
    assert len(pareto([point(1, 0.1), point(1, 0.1)])) == 1
    assert pareto([]) == []
