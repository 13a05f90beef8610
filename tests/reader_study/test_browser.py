"""A reader at a real browser: Chromium without a window, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from medgan.reader_study import ReaderStudy
from medgan.reader_study.store import AnswerStore

_CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))),
    None,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("playwright") is None, reason="needs playwright, of the extra test"),
    pytest.mark.skipif(_CHROMIUM is None, reason="needs Chromium or Chrome on the PATH"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def study(draw, tmp_path) -> ReaderStudy:
    """Ten cases, with all questions."""
    return draw(tmp_path / "study", num=8, repeats=0.25, realism=True, diagnosis=True, comment=True)


@pytest.fixture
def page(chromium) -> Iterator[object]:
    """A page whose console has to stay clean: no error, and nothing that the policy of the page had to stop."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.complaints = complaints
    yield opened
    context.close()


def check_clean(page) -> None:
    # What the browser asks of its own accord, and the tests provoke.
    assert [text for text in page.complaints if "favicon" not in text and "404" not in text] == []


def begin(page, link) -> None:
    page.goto(link)
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Begin").click()


def brightness(page, place=0) -> float:
    """Return the mean of what is drawn, from 0 to 255."""
    return page.evaluate(
        """place => {
          const canvas = document.querySelectorAll("canvas")[place];
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let sum = 0;
          for (let index = 0; index < data.length; index += 4) sum += data[index];
          return sum / (data.length / 4);
        }""",
        place,
    )


def settle(page) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_a_reader_with_the_keyboard_alone(study, serve, page):
    """From the link to the last case, with a pause, a change of mind, and the page closed in between."""
    reader = study.readers[0]
    _, address, links = serve(study)
    page.goto(links[reader.name])
    assert page.url == f"{address}/"  # the secret is not in sight
    page.get_by_label("I have read this").wait_for()  # what is hidden takes no focus, and no key
    page.keyboard.press("Tab")
    page.get_by_label("I have read this").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    for number in (1, 2):
        page.get_by_text(f"Training {number} of 2").wait_for()
        page.keyboard.press("4")  # confidence
        page.keyboard.press("2")  # realism
        page.keyboard.press("1")  # diagnosis
        page.keyboard.press("Enter")
        kind = "synthetic" if study.training[number - 1][1][0] else "real"
        page.get_by_text(f"This image is {kind}.").wait_for()
        page.keyboard.press("Enter")
    page.get_by_role("heading", name="The study begins").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("Case 1 of 10").wait_for()
    assert page.get_by_role("button", name="Confirm").is_disabled()
    settle(page)
    before = brightness(page)
    page.keyboard.press("i")
    settle(page)
    assert brightness(page) != pytest.approx(before, abs=1)
    page.keyboard.press("0")
    settle(page)
    assert brightness(page) == pytest.approx(before, abs=0.5)

    page.keyboard.press("5")
    assert page.get_by_role("button", name="Confirm").is_disabled()
    page.keyboard.press("3")
    page.keyboard.press("2")
    page.get_by_label("Comment").fill("<b>edge</b> 1 p i")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.get_by_text("Case 2 of 10").wait_for()
    page.keyboard.press("b")  # a change of mind
    page.get_by_text("Case 1 of 10").wait_for()
    for key in ("1", "3", "2", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("Case 2 of 10").wait_for()

    page.keyboard.press("p")
    page.get_by_role("heading", name="Paused").wait_for()
    assert page.locator("canvas").first.is_hidden()
    page.wait_for_timeout(1500)
    page.keyboard.press("Enter")
    page.get_by_text("Case 2 of 10").wait_for()
    for key in ("2", "3", "3", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("Case 3 of 10").wait_for()

    page.goto("about:blank")
    page.goto(f"{address}/")  # later, in the same browser
    for number in range(3, 11):
        page.get_by_text(f"Case {number} of 10").wait_for()
        for key in (str(number % 5 + 1), "3", "1", "Enter"):
            page.keyboard.press(key)
    page.get_by_role("heading", name="Thank you").wait_for()
    check_clean(page)

    with AnswerStore(study) as store:
        answers = store.answers()
    assert len(answers) == 10
    first = answers[reader.name, 0]
    assert [answer.confidence for answer in first] == [5, 1]
    assert first[0].comment == "<b>edge</b> 1 p i"
    assert (first[0].realism, first[0].diagnosis) == (3, study.classes[1])
    assert answers[reader.name, 1][0].seconds < 60
    assert all(answers[reader.name, number - 1][0].confidence == number % 5 + 1 for number in range(3, 11))
    assert answers[reader.name, 1][0].diagnosis == "cannot tell"


def test_pause_is_not_counted(pair_study, serve, page):
    reader = pair_study.readers[0]
    _, _, links = serve(pair_study)
    begin(page, links[reader.name])
    for number in (1, 2):
        page.get_by_text(f"Training {number} of 2").wait_for()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        page.get_by_text("image is synthetic.").wait_for()
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.get_by_text("Case 1 of 30").wait_for()
    page.keyboard.press("p")
    page.get_by_role("heading", name="Paused").wait_for()
    page.wait_for_timeout(4000)
    page.keyboard.press("Enter")
    page.get_by_text("Case 1 of 30").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("Case 2 of 30").wait_for()
    check_clean(page)
    with AnswerStore(pair_study) as store:
        (stored,) = store.answers()[reader.name, 0]
    assert stored.choice == 1
    assert 0 < stored.seconds < 4


def test_window_level_and_zoom_with_the_mouse(study, serve, page):
    _, _, links = serve(study)
    begin(page, links[study.readers[0].name])
    page.get_by_text("Training 1 of 2").wait_for()
    settle(page)
    before = brightness(page)
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - 150, steps=3)
    page.mouse.up()
    settle(page)
    assert abs(brightness(page) - before) > 5
    page.mouse.wheel(0, -400)
    page.locator("#zoom", has_text="272 %").wait_for()  # the wheel is sent without waiting
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert page.locator("#zoom").inner_text() == "100 %"
    assert brightness(page) == pytest.approx(before, abs=0.5)
    check_clean(page)


def test_a_tablet_with_fingers(study, serve, chromium):
    _, _, links = serve(study)
    context = chromium.new_context(viewport={"width": 820, "height": 1180}, has_touch=True, color_scheme="dark")
    page = context.new_page()
    page.goto(links[study.readers[0].name])
    page.get_by_text("I have read this").tap()
    page.get_by_role("button", name="Begin").tap()
    page.get_by_text("Training 1 of 2").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for word in ("Cannot tell", "Fairly", "PNEUMONIA"):
        target = page.locator("label", has_text=word).first
        target.tap()
        assert target.bounding_box()["height"] >= 44
    page.get_by_role("button", name="Confirm").tap()
    page.get_by_text("This image is").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    context.close()


def test_server_killed_while_an_answer_is_given(study, serve, page):
    """The answer stays on the page, the reader is told, and it goes through when the server is back."""
    reader = study.readers[0]
    process, address, links = serve(study)
    begin(page, links[reader.name])
    for number in (1, 2):
        page.get_by_text(f"Training {number} of 2").wait_for()
        for key in ("4", "2", "1", "Enter"):
            page.keyboard.press(key)
        page.get_by_text("This image is").wait_for()
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.get_by_text("Case 1 of 10").wait_for()
    process.kill()
    process.wait()
    for key in ("4", "2", "1", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("The server cannot be reached").wait_for()
    assert page.get_by_text("Case 1 of 10").is_visible()
    serve(study, port=int(address.rpartition(":")[2]))
    page.keyboard.press("Enter")
    page.get_by_text("Case 2 of 10").wait_for()
    with AnswerStore(study) as store:
        (stored,) = store.answers()[reader.name, 0]
    assert stored.confidence == 4


def test_a_wrong_link(study, serve, page):
    _, address, _ = serve(study)
    page.goto(f"{address}/r/guessed")
    assert page.get_by_text("This link is not known").is_visible()
    assert page.locator("canvas").count() == 0
