"""What a page is made of, and how it is written."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medgan.core.saving import write_aside

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL import Image

__all__ = ["Block", "Code", "Figure", "Gallery", "Note", "Page", "Section", "Table", "Text", "markdown_table"]


@dataclass(frozen=True)
class Text:
    """A paragraph; all text is escaped, so that nothing in a file's name becomes markup."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Note:
    """A paragraph that stands out.

    Attributes:
        text: What it says.
        tone: ``verdict`` for what was found, ``warning`` for what limits it, ``danger`` for what makes it void.
        points: What follows, as a list.
    """

    text: str
    tone: Literal["verdict", "warning", "danger"] = "warning"
    points: Sequence[str] = ()
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Code:
    """Text to copy as it stands, such as a command or a Markdown table."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Headings.
        rows: Cells, as text; each row as long as `columns`.
        caption: What it shows, and on what.
        strong: What to set in bold: numbers of rows, or of a row and a column, from 0.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    strong: Collection[int | tuple[int, int]] = ()
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        """Check that rows and headings fit.

        Raises:
            ValueError: If a row has another length.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns: {list(row)}")

    def aligned_right(self, column: int) -> bool:
        """Whether a column holds numbers: all its cells begin like one, or are empty. The first names the rows."""
        if column == 0:
            return False
        cells = [row[column].strip() for row in self.rows]
        return any(cells) and all(not cell or cell[0] in "-−+±<>≤≥.0123456789–" for cell in cells)


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        png: The bytes of a PNG file; see `medgan.pages.figure_png`.
        alt: What it shows, for those who cannot see it.
        caption: What it shows, and on what.
        pixelated: Whether it is enlarged without smoothing, as small images should be.
    """

    png: bytes
    alt: str
    caption: str = ""
    pixelated: bool = False
    kind: ClassVar[str] = "figure"

    @classmethod
    def of_image(cls, image: Image.Image, alt: str, caption: str = "") -> Figure:
        """Return a figure of a Pillow image.

        Args:
            image: The image.
            alt: See `Figure`.
            caption: See `Figure`.
        """
        stream = io.BytesIO()
        image.save(stream, format="PNG")
        return cls(stream.getvalue(), alt, caption, pixelated=True)

    @property
    def address(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, as many as there is room for.

    Attributes:
        figures: The figures.
        caption: What they show together.
        width: Of a figure, in rem: it gets no narrower than this, unless the screen is.
    """

    figures: Sequence[Figure]
    caption: str = ""
    width: float = 28
    kind: ClassVar[str] = "gallery"


Block = Text | Note | Code | Table | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it.

    Attributes:
        title: The heading.
        blocks: Its content.
        folded: Whether it is shown only when it is opened (it is open in print).
    """

    title: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: Of the page.
        lead: What it is, in a sentence or two.
        opening: What comes before the first heading: the verdict, and warnings.
        sections: The rest.
        footer: Facts such as versions, name by name.
    """

    title: str
    lead: str
    opening: Sequence[Block] = ()
    sections: Sequence[Section] = ()
    footer: dict[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """Return the page as one HTML document that needs no other file."""
        return _template().render(page=self)

    def write(self, path: Path) -> None:
        """Write the page, aside first.

        Args:
            path: File to create or to replace.

        Raises:
            CheckpointError: If it cannot be written.
        """
        with write_aside(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8", errors="replace")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        columns: Headings.
        rows: Cells, as text.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *(line(row) for row in rows)]) + "\n"


@cache
def _template() -> Template:
    """Load the template, with everything escaped that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment: Any = Environment(
        loader=PackageLoader("medgan", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template: Template = environment.get_template("page.html.j2")
    return template
