from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from medgan.pages import (
    Code,
    Figure,
    Gallery,
    Note,
    Page,
    Section,
    Table,
    Text,
    figure_png,
    make_figure,
    markdown_table,
)

VOID = {"meta", "img", "br", "link"}


class Balance(HTMLParser):
    """Collects what a page is made of, and fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: Page) -> Balance:
    parser = Balance()
    parser.feed(page.html())
    assert parser.open == []
    return parser


def example() -> Page:
    figure, panels = make_figure(1, 2)
    panels[0, 0].plot([0, 1], [0, 1])
    table = Table(["arm", "AUROC"], [["real", "0.95"], ["<b>bold</b>", ""]], caption="Of 3 < 4", strong=[0])
    return Page(
        "Is it <worth> it?",
        "A & B",
        [Note("No.", "verdict"), Note("Leak.", "danger")],
        [
            Section("Table", [Text("x <script>alert(1)</script>"), table]),
            Section("More", [Figure(figure_png(figure), "a line"), Code("medgan fit")], folded=True),
        ],
        {"medgan": "0.1"},
    )


def test_everything_is_shown_and_nothing_is_markup() -> None:
    found = read(example())
    assert "Is it <worth> it?" in found.text
    assert "x <script>alert(1)</script>" in found.text
    assert "<b>bold</b>" in found.text
    assert sum(tag == "script" for tag, _ in found.seen) == 1  # the page's own
    assert not any(tag == "b" for tag, _ in found.seen)
    assert [attributes["class"] for tag, attributes in found.seen if tag == "div" and "note" in str(attributes)] == [
        "note verdict",
        "note danger",
    ]
    assert sum(tag == "details" for tag, _ in found.seen) == 1


def test_a_page_needs_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    example().write(path)
    found = Balance()
    found.feed(path.read_text(encoding="utf-8"))
    addresses = [value for _, attributes in found.seen for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    assert all(str(address).startswith("data:") for address in addresses)
    assert "http" not in path.read_text(encoding="utf-8")
    picture = base64.b64decode(str(addresses[0]).split(",", 1)[1])
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"


def test_numbers_stand_to_the_right() -> None:
    table = Table(["a", "b", "c"], [["x", "0.95 (0.94–0.96)", "−0.1"], ["0", "", "+2"]])
    assert [table.aligned_right(column) for column in range(3)] == [False, True, True]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="3 cells in a table of 2"):
        Table(["a", "b"], [["1", "2", "3"]])


def test_small_images_are_not_smoothed() -> None:
    figure = Figure.of_image(Image.new("L", (4, 4)), "a black square")
    assert 'class="pixelated"' in Page("t", "l", [figure]).html()


def test_markdown_table() -> None:
    assert markdown_table(["a", "b|c"], [["1", "two\nlines"]]) == "| a | b\\|c |\n|---|---|\n| 1 | two lines |\n"


def test_single_cells_and_whole_rows_in_bold() -> None:
    table = Table(["a", "b"], [["1", "2"], ["3", "4"]], strong=[(0, 1), 1])
    html = Page("t", "l", [table]).html()
    assert "<strong>2</strong>" in html
    assert html.count("<strong>") == 1
    assert html.count('<tr class="strong">') == 1


def test_points_of_a_note() -> None:
    found = read(Page("t", "l", [Note("Found:", "verdict", ["a < b", "c"])]))
    assert "a < b" in found.text
    assert sum(tag == "li" for tag, _ in found.seen) == 2


def test_gallery_shows_all_its_figures() -> None:
    figure = Figure.of_image(Image.new("L", (4, 4)), "a & b", "black")
    found = read(Page("t", "l", [Gallery([figure, figure, figure], "three", width=9.5)]))
    assert [attributes["alt"] for tag, attributes in found.seen if tag == "img"] == ["a & b"] * 3
    assert [attributes["style"] for _, attributes in found.seen if "style" in attributes] == ["--width: 9.5rem"]
    assert "three" in found.text


@pytest.mark.parametrize(("sections", "links"), [(5, 0), (6, 6)])
def test_a_long_page_has_contents(sections: int, links: int) -> None:
    found = read(Page("t", "l", sections=[Section(f"part {i}", [], folded=i == 2) for i in range(sections)]))
    places = [attributes["href"] for tag, attributes in found.seen if tag == "a"]
    assert len(places) == links
    ids = {f"#{attributes['id']}" for _, attributes in found.seen if "id" in attributes}
    assert set(places) <= ids
