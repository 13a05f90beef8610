"""What the documentation says of commands, papers and Python; what Sphinx finds is not repeated here."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

from medgan import registry
from medgan.cli.main import main
from medgan.cli.options import given
from medgan.errors import MedganError
from medgan.models import ACGAN
from medgan.runs import resolve

fit_module = import_module("medgan.cli.fit")  # the package's name is the command's

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/README.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
    if not {"_build", "gallery"} & set(path.relative_to(ROOT).parts)
)

FOLLOW = runpy.run_path(str(ROOT / "docs" / "follow.py"))
commands_of: Callable[[str], list[str]] = FOLLOW["commands_of"]

# ---------------------------------------------------------------------------------------- commands

BETWEEN = ("&&", "||", "|", ";", "&", "(", ")", ">", ">>", "2>")
BEFORE = re.compile(r"[A-Za-z_]\w*=.*|time|nohup|srun|do|then|-m")  # of the command itself, or what starts it
CONTROL = {"config", "resume", "transforms", "dry_run"}  # flags of `fit` that are no options of a run
PLACEHOLDER = re.compile(r"[A-Z]+")  # such as RUN or N, for what readers have themselves
BLOCK = re.compile(r"^ *(`{3,})[^`\n]*\n.*?^ *\1 *$", re.M | re.S)
CODE = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\s*\n).)+?)(?<!`)\1(?!`)", re.S)
FLAG = re.compile(r"(?<!\S)--[a-z][\w-]*")
FOREIGN = {"--logdir", "--master_addr", "--nnodes", "--no-deps", "--node_rank", "--nproc_per_node"}  # of other commands


class Uncheckable(Exception):  # noqa: N818 - no error
    """A placeholder stands where a value of some kind is needed."""


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of medgan in a line, without its name."""
    lexer = shlex.shlex(re.sub(r"\$\{?\w+\}?", "1", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    part: list[str] = []
    for token in [*lexer, ";"]:
        if token not in BETWEEN:
            part.append(token)
            continue
        place = part.index("medgan") if "medgan" in part else -1
        if place >= 0 and (place == 0 or BEFORE.fullmatch(part[place - 1])):
            yield part[place + 1 :]
        part = []


def inline(text: str) -> Iterator[str]:
    """Yield the code in the sentences and tables of a page, each on one line."""
    for _, code in CODE.findall(BLOCK.sub("", text)):
        yield " ".join(code.replace("\\|", "|").split())


def parse_mention(arguments: list[str]) -> None:
    """Parse a call that a sentence names: what it needs besides may be missing, and the value of its last flag."""
    try:
        parse([*arguments, "..."])
    except click.BadOptionUsage as error:
        if arguments[-1] != error.option_name:
            raise
        parse([*arguments[:-1], "..."])


def parse(arguments: list[str]) -> None:
    """Let click parse a call, without doing what it says; raises if that does not work."""
    open_ended = [word for word in arguments if word in ("...", "…", "OPTIONS", "[OPTIONS]")]
    words = [word for word in arguments if word not in open_ended]
    context = click.Context(main, info_name="medgan")
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    asked = {"-h", "--help", "--version"}
    if asked & set(words):
        words = [word for word in words if word not in asked]
        open_ended.append("--help")
    if not words and isinstance(command, click.Group):
        return
    try:
        made = command.make_context(str(context.info_name), words, parent=context.parent)
        if command is fit_module.fit:
            options = [item for item in command.params if isinstance(item, click.Option)]
            flags = given(made, [item for item in options if item.name not in CONTROL])
            resolve(flags)
    except click.MissingParameter:
        if not open_ended:
            raise
    except (click.BadParameter, MedganError) as error:
        value = re.search(r"'([^']*)' is not", str(getattr(error, "message", error)))
        if value and PLACEHOLDER.fullmatch(value[1]):
            raise Uncheckable(str(value[1])) from error
        raise


def own_flags(command: click.Command) -> set[str]:
    """Return the flags of a command as it stands; those of `fit` depend on what it was asked for last."""
    return {flag for item in command.params for flag in (*item.opts, *item.secondary_opts)}


def flags_of(command: click.Command) -> set[str]:
    """Return the flags of a command, and of those in it; of `fit` those with all architectures."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        inner = (command.get_command(context, name) for name in command.list_commands(context))
        return {"--help", "--version"}.union(*(flags_of(item) for item in inner if item is not None))
    found: set[str] = set()
    for name in registry.names() if command is fit_module.fit else ():
        command.make_context("fit", ["--arch", name], resilient_parsing=True)  # looks for the options
        found |= own_flags(command)
    return found | own_flags(command)


@cache
def known_flags() -> set[str]:
    """Return the flags of medgan, its benchmarks, and other programs; architectures have to be `installed`."""
    program = (ROOT / "benchmarks" / "__main__.py").read_text(encoding="utf-8")
    return flags_of(main) | set(re.findall(r'"(--[a-z-]+)"', program)) | FOREIGN


@cache
def flags_of_acgan() -> set[str]:
    """Return the flags of `medgan fit --arch acgan`."""
    fit_module.fit.make_context("fit", ["--arch", "acgan"], resilient_parsing=True)
    return own_flags(fit_module.fit)


def check_inline(code: str) -> None:
    """Check what a sentence or a table says of flags and calls; raises if something of it cannot be."""
    said = set(FLAG.findall(code))
    if not said <= known_flags():
        raise click.UsageError(f"{', '.join(sorted(said - known_flags()))} is no flag.")
    if code.startswith("medgan "):
        for call in calls(code):
            parse_mention(call)
    # Several options of a training are to fit each other. A preset fits the architecture that is spoken of.
    elif code.startswith("--") and len(said) > 1 and said <= flags_of_acgan() - {"--preset"}:
        parse_mention(["fit", *shlex.split(code)])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let the architectures be known that pages name, and the runs and files of options be there that `fit` reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    known = {"plain": "first_architecture:Plain"}
    projects = list((ROOT / "plugins").glob("*/pyproject.toml"))
    if not projects:
        pytest.skip("there are no plugins, as in the source distribution, and pages name them")
    for project in projects:
        monkeypatch.syspath_prepend(project.parent)
        known |= tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]["medgan.architectures"]
    known = {name: value for name, value in known.items() if name not in registry.names()}
    monkeypatch.setenv("MEDGAN_PLUGINS", ",".join(f"{name}={value}" for name, value in known.items()))
    monkeypatch.setattr(fit_module, "find_run", lambda *_: None)
    monkeypatch.setattr(fit_module, "read_config", lambda *_: {})
    mine = ("my-gan", "my-hinge")  # what `plugins new` makes
    for name in mine:
        registry.register(type("MyGAN", (ACGAN,), {"name": name, "api_version": 1}))
    yield
    for name in mine:
        registry.unregister(name)


def test_commands_parse(installed: None) -> None:
    """Every call of medgan in a shell block of a page: commands, options and values exist, and fit each other."""
    found = [
        (str(page.relative_to(ROOT)), call)
        for page in PAGES
        for line in commands_of(page.read_text(encoding="utf-8"))
        for call in calls(line)
    ]
    broken, unchecked = [], []
    for page, call in found:
        text = f"{page}: medgan {shlex.join(call)}"
        try:
            parse(call)
        except Uncheckable as placeholder:
            unchecked.append(f"{text} ({placeholder})")
        except (click.ClickException, MedganError) as error:
            broken.append(f"{text}\n    {error.format_message() if isinstance(error, click.ClickException) else error}")
    print("Not checked:", *unchecked, sep="\n")
    assert not broken, "\n".join(broken)
    assert len(found) > 60
    assert len(unchecked) < 5


CONSOLE = re.compile(
    r"^ *```(?P<info>bash|sh|shell|console|\{code-block\} *(?:bash|console))\n(?P<text>.*?)^ *```", re.M | re.S
)


def test_commands_have_prompts() -> None:
    """Blocks of the site, which copies them without, begin with a prompt; READMEs, copied as they are, have none."""
    blocks = [(page, block) for page in PAGES for block in CONSOLE.finditer(page.read_text(encoding="utf-8"))]
    assert len(blocks) > 60
    assert [str(page) for page, block in blocks if block["info"] != "console"] == []
    site = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    without = [block["text"] for page, block in blocks if page in site and not block["text"].lstrip().startswith("$ ")]
    assert without == []
    assert [
        block["text"] for page, block in blocks if page not in site and re.search(r"^ *\$ ", block["text"], re.M)
    ] == []


@pytest.mark.parametrize(
    "line",
    [
        "medgan nothing",
        "medgan fit --no-such-option 1",
        "medgan fit --size wide",
        "medgan fit --size 1",
        "medgan fit --arch nothing",
        "medgan fit --label-smoothing 0.1",  # acts on nothing beside the hinge loss
        "medgan sample --label NORMAL",
        "medgan sample --model RUN --format gif",
        "medgan study analyse FOLDER",
        "torchrun --nproc_per_node 2 -m medgan fit --no-such-option",
    ],
)
def test_broken_commands_are_found(line: str, installed: None) -> None:
    (call,) = calls(line)
    with pytest.raises((click.ClickException, MedganError)):
        parse(call)


def test_sentences_and_tables(installed: None) -> None:
    """What is said of calls and flags outside of blocks: they exist, their values fit, and several fit each other."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        for code in inline(page.read_text(encoding="utf-8")):
            found.setdefault(code, []).append(str(page.relative_to(ROOT)))
    broken = []
    for code, pages in found.items():
        try:
            check_inline(code)
        except Uncheckable:
            pass  # whatever the placeholder stands for
        except (click.ClickException, MedganError) as error:
            told = error.format_message() if isinstance(error, click.ClickException) else error
            broken.append(f"{', '.join(dict.fromkeys(pages))}: {code}\n    {told}")
    assert not broken, "\n".join(broken)
    assert sum(code.startswith(("medgan ", "--")) for code in found) > 200


@pytest.mark.parametrize(
    "code",
    [
        "medgan fit --no-such-option",
        "medgan sample --format gif",
        "medgan study analyse",
        "--no-such-option 1",
        "--label-weight 0.1 --label-ramp 20000",  # of a head, which the preset has not
        "--gradient-penalty none --penalty-one-in 4",  # of a penalty that is not there
    ],
)
def test_broken_sentences_are_found(code: str, installed: None) -> None:
    with pytest.raises((click.ClickException, MedganError)):
        check_inline(code)


def test_inline() -> None:
    page = "`medgan\n  fit` and ``a `b` ``\n\n| `c\\|d` |\n\n```console\n$ `e`\n```\n"
    assert list(inline(page)) == ["medgan fit", "a `b`", "c|d"]
    parse_mention(["sample", "--quality"])  # the value and the model are missing
    with pytest.raises(click.BadParameter):
        parse_mention(["fit", "--steps", "--size", "64"])


def test_calls() -> None:
    page = "```console\n$ A=1 medgan fit \\\n    --size $SIDE  # so\nmedgan said this\n```\n\n```text\nmedgan no\n```\n"
    assert [call for line in commands_of(page) for call in calls(line)] == [["fit", "--size", "1"]]
    assert list(calls("pip install medgan && python -m medgan archs | grep medgan; cd medgan")) == [["archs"]]
    with pytest.raises(Uncheckable):
        parse(["fit", "--steps", "N"])


def test_every_command_has_a_page() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "reference" / "cli").glob("*.md")}
    assert pages == set(main.list_commands(click.Context(main)))


# ------------------------------------------------------------------------------------------ papers

ARXIV = re.compile(r"arxiv(?::|\.org/abs/)(\d{4}\.\d{4,5})", re.I)
DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"'`<>\[\]{}|\\]+")
INVENTED = {"10.1000/1"}  # of an example


def papers(text: str) -> set[str]:
    """Return the arXiv numbers and DOIs in a text."""
    found = set(ARXIV.findall(text))
    for doi in DOI.findall(text.replace("%28", "(").replace("%29", ")")):
        while doi.endswith((".", ",", ";", ":", "*")) or doi.count(")") > doi.count("("):
            doi = doi[:-1] if doi[-1] != ")" or doi.count(")") > doi.count("(") else doi
        found.add(doi.lower())
    return found


def test_every_paper_is_in_the_bibliography() -> None:
    bibliography = ROOT / "docs" / "reference" / "bibliography.md"
    sources = {path for folder in ("medgan", "plugins", "docs") for path in (ROOT / folder).rglob("*")}
    cited = {
        paper: str(path.relative_to(ROOT))
        for path in sorted(sources - {bibliography})
        if path.suffix in {".py", ".md", ".j2"} and not {"_build", "gallery"} & set(path.relative_to(ROOT).parts)
        for paper in papers(path.read_text(encoding="utf-8"))
    }
    listed = papers(bibliography.read_text(encoding="utf-8"))
    assert len(cited) > 100
    assert {paper: where for paper, where in cited.items() if paper not in listed | INVENTED} == {}


def test_papers() -> None:
    text = "(doi:10.1093/biomet/34.1-2.28), [here](https://doi.org/10.1016/0047-259X(82)90077-X). ArXiv:2101.04775"
    assert papers(text) == {"10.1093/biomet/34.1-2.28", "10.1016/0047-259x(82)90077-x", "2101.04775"}


# ------------------------------------------------------------------------------------------ Python


def write_script(page: Path, folder: Path) -> Path | None:
    """Write the Python blocks of a page as one script, as they are read one after the other; None if there are none."""
    steps = FOLLOW["steps_of"](page.read_text(encoding="utf-8"))
    blocks = [step.text for step in steps if step.kind != "command"]
    if not blocks:
        return None
    script = folder / "-".join(page.relative_to(ROOT).with_suffix(".py").parts)
    script.write_text("\n\n".join(blocks), encoding="utf-8")
    return script


def find_undefined(folder: Path) -> str:
    """Return what is wrong with the scripts in a folder: syntax, and names that nothing has defined before."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--quiet",
        "--output-format",
        "concise",
    ]
    process = subprocess.run(
        [*command, "--select", "F821", "--target-version", "py311", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode in (0, 1), process.stderr
    return process.stdout


def test_python_blocks(tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff, of the extra lint, looks for names that are not defined")
    scripts = [script for page in PAGES if (script := write_script(page, tmp_path))]
    assert len(scripts) > 10
    assert find_undefined(tmp_path) == ""


@pytest.mark.parametrize("text", ["print(samples)\n", "from pathlib import Path\nPath(\n"])
def test_broken_python_is_found(text: str, tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff, of the extra lint, looks for names that are not defined")
    (tmp_path / "page.py").write_text(text, encoding="utf-8")
    assert "page.py:" in find_undefined(tmp_path)


# ------------------------------------------------------------------------------------------- links

LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """Return the names of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ +(.*)$", BLOCK.sub("", text), re.M)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        for title in titles
    }


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files or headings that are not there; those to the network are not looked at."""
    found = []
    for target in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.exists() or (anchor and anchor not in anchors(place.read_text(encoding="utf-8"))):
            found.append(target)
    return found


def test_links_of_pages_outside_the_site() -> None:
    """Those of the site are Sphinx's to find."""
    outside = [page for page in PAGES if not page.is_relative_to(ROOT / "docs")]
    assert len(outside) > 10
    assert {str(page): links for page in outside if (links := broken_links(page))} == {}


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `b`: c\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[](other.md#a-b-c) [](other.md#d) [](none.md) [](#here) ![](no.png) [](https://e.org)\n\n## Here\n"
    )
    assert broken_links(page) == ["other.md#d", "none.md", "no.png"]


def test_plugins_show_what_they_make() -> None:
    pages = sorted((ROOT / "plugins").glob("*/README.md"))
    assert [page.parent.name for page in pages if ".png)" not in page.read_text(encoding="utf-8")] == []
