"""What is typed; what comes of it is in tests/comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = ("--data", "phantom://chest?n=40&seed=1", "--size", "32", "--device", "cpu")


def test_help(medgan):
    text = " ".join(medgan.works("compare", "--help").stdout.split())
    for flag in ("--archs", "--budget", "--kimg", "--patient-regex", "--test", "--seed", "--metrics", "--out"):
        assert f"{flag} " in text
    for flag in ("--arch ", "--preset", "--steps", "--init-from", "--outdir", "--name", "--freeze-discriminator"):
        assert flag not in text.replace("--archs ", "")
    assert "[default: each preset's]" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing option '--archs'"),
        (("--archs", "acgan:tiny"), "needs two architectures or more"),
        (("--archs", "acgan,acgam", "--kimg", "1"), "Did you mean 'acgan'"),
        (("--archs", "acgan,acgan:tiny"), "and none was given. Type --budget 20m"),
        (("--archs", "acgan,acgan:tiny", "--kimg", "1", "--budget", "9m"), "and both were given"),
        (("--archs", "acgan,acgan:tiny", "--kimg", "1", "--metrics", "fid"), "There is no metric 'fid'"),
        (("--archs", "acgan,acgan:tiny", "--kimg", "1", "--channels", "3", "--augment", "fog"), "acgan: "),
    ],
)
def test_bad_input(medgan, here: Path, arguments, message):
    assert message in medgan.fails("compare", *DATA, *arguments)
    assert list(here.iterdir()) == []


def test_not_under_a_launcher(medgan, here: Path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "starts its trainings itself" in medgan.fails("compare", *DATA, "--archs", "acgan,acgan:tiny", "--kimg", 1)
