from __future__ import annotations

import io

import pytest

from medgan.training import make_progress, reading_progress
from medgan.training.progress import _describe

ROW = {
    "step": 50,
    "images": 1600,
    "images_per_second": 40.0,
    "discriminator/label": 0.25,
    "discriminator/label/NORMAL": 0.5,
    "generator/adversarial": -1.5,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("steps", "left"),
    [(50, "0:00"), (51, "0:01"), (150, "1:20"), (50 + 4500, "1:00:00"), (50 + 5 * 4500 + 80, "5:01:04")],
)
def test_time_left(steps, left):
    assert f"40 images/s  {left} left  D label 0.250  G adversarial -1.500" == _describe(ROW, steps)


def test_no_speed_yet():
    assert "0 images/s" in _describe(ROW | {"images_per_second": 0.0}, 100)


def test_plain_lines_are_few(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("medgan.training.progress.time.monotonic", lambda: now[0])
    with make_progress(100) as show:
        for step in range(1, 101):
            now[0] += 1
            show(ROW | {"step": step})
    steps = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert steps[0] == "step 1"  # at once, so that one sees that it works
    assert steps[-1] == "step 100"
    assert 10 <= len(steps) <= 12


@pytest.mark.parametrize("live", [False, True])
def test_lines_of_evaluations_are_not_shown(capsys, monkeypatch, live):
    """They have no speed; a tracker gets them."""
    terminal = Terminal() if live else io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with make_progress(100, 20) as show:
        show({"step": 25, "images": 800, "evaluation/score": 0.5})
        show(ROW)
    assert "score" not in terminal.getvalue()
    assert "40 images/s" in terminal.getvalue()


def test_a_length_that_is_not_known_yet(capsys):
    plans = iter([None, 60])
    with make_progress(lambda: next(plans)) as show:
        show(ROW)
        show(ROW | {"step": 60})
    assert capsys.readouterr().err.splitlines()[0].startswith("step 50/?  40 images/s  D label")


def test_live_line_in_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with make_progress(100, 20) as show:
        show(ROW)
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert "50/100" in text
    assert "40 images/s" in text


def test_reading_says_nothing_if_it_is_quick(capsys):
    with reading_progress() as show:
        show(1, 2)
        show(2, 2)
    assert capsys.readouterr().err == ""


def test_reading_in_plain_lines(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("medgan.training.progress.time.monotonic", lambda: now[0])
    with reading_progress() as show:
        for done in range(1, 31):
            now[0] += 1
            show(done, 3000)
    assert capsys.readouterr().err.splitlines() == [f"reading images: {done}/3,000" for done in (10, 20, 30)]


def test_reading_in_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with reading_progress() as show:
        show(5, 10)
    assert "reading images" in terminal.getvalue()
    assert "5/10" in terminal.getvalue()
