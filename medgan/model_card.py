"""The full model card of a run: what the model's own facts say, with the results that lie beside them.

Results are looked up by the names of their files, in the folders of the run:

==============  ==========================================================  =============================
part            file                                                        written by
==============  ==========================================================  =============================
``metrics``     ``metrics.json``                                            ``medgan metrics``
``evaluation``  ``summary.json``, or ``cross-validation.json``              ``medgan evaluate``
``study``       ``analysis.json``                                           ``medgan study analyze``
``audit``       ``audit.json``                                              ``medgan audit``
==============  ==========================================================  =============================

They may lie up to two folders deep, such as ``RUN/metrics/metrics.json``; of several, the newest that is of this very
model counts. Results of other weights are not shown: a card says that they are out of date. Numbers come from these
files alone, each with what it was measured on, and nothing in them becomes markup.

``analysis.json`` is read by a small interface, all of it optional: ``claim`` and ``limits``, lists of sentences;
``facts``, an object of names and plain values; ``results``, a list of objects with ``measure``, ``who``, ``value``,
``low``, ``high``, ``count`` and ``interval_for``. Of all files, ``weights_sha256`` (of ``settings`` or ``facts``, or at
the top) says whose model it is. Pairs of an audit, which name patients' files, are never read.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from medgan.core.card import escape, markdown_rows, read_card, render_card
from medgan.core.saving import read_model, write_aside
from medgan.data.splits import Splits, image_identities
from medgan.errors import CheckpointError, ConfigError, DataError
from medgan.models import Which, find_model
from medgan.runs import find_run_of, is_run, read_config

__all__ = ["RESULTS", "ModelCard", "ResultFiles", "make_card", "write_card"]

_LARGEST = 100_000_000  # bytes of a file of results
_LINES = 60  # rows of a table
_SENTENCES = 20


class ResultFiles(NamedTuple):
    """Where the results of a part are.

    Attributes:
        files: Names of the files that hold them.
        command: What writes them.
    """

    files: tuple[str, ...]
    command: str


RESULTS: Mapping[str, ResultFiles] = MappingProxyType(
    {
        "metrics": ResultFiles(("metrics.json",), "medgan metrics"),
        "evaluation": ResultFiles(("summary.json", "cross-validation.json"), "medgan evaluate"),
        "study": ResultFiles(("analysis.json",), "medgan study analyze"),
        "audit": ResultFiles(("audit.json",), "medgan audit"),
    }
)
"""The files of results, by part."""


@dataclass(frozen=True)
class ModelCard:
    """A rendered card.

    Attributes:
        text: The file's text.
        model: The model's folder, where the card belongs.
        used: The files whose results are in it, by part.
        remarks: What was found and is not shown, by part.
    """

    text: str
    model: Path
    used: Mapping[str, Path]
    remarks: Mapping[str, str]


def make_card(
    place: str | Path,
    *,
    which: Which = "best",
    results: Mapping[str, Path] | None = None,
    licence: str | None = None,
    card: Path | None = None,
) -> ModelCard:
    """Render the card of a model, with all results that are found.

    Args:
        place: A run folder, or a saved model's folder.
        which: Which model of a run, as in `medgan.models.find_model`.
        results: Files of results, or folders that hold them, by name of the part; they need not lie in the run.
        licence: Licence of the model, by its name on the Hugging Face Hub; None for what the card says already.
        card: The card whose owner's text is kept; None for the model's own.

    Returns:
        The card; nothing is written.

    Raises:
        CheckpointError: If there is no such model.
        ConfigError: If a part is unknown, or a file that was named is of other weights.
        DataError: If a file of results is missing or damaged.
    """
    folder = Path(place).expanduser()
    model = find_model(folder, which=which)
    facts = read_model(model)[1]
    run = find_run_of(folder.resolve())
    named = dict(results or {})
    for part in named:
        if part not in RESULTS:
            raise ConfigError(f"There are no results named {part!r}, but {', '.join(RESULTS)}.")
    shown: dict[str, str] = {}
    used: dict[str, Path] = {}
    remarks: dict[str, str] = {}
    groups: list[str] = []
    for part in RESULTS:
        found, remark = _find(part, run if is_run(run) else None, named.get(part), facts["sha256"])
        if remark:
            remarks[part] = remark
        if found is None:
            continue
        used[part] = found.path
        origin = f"From {escape(_name(found.path, run))}."
        if not found.weights and part != "study":
            origin += " It does not record which weights it is of."
        shown[part] = "\n\n".join([*_READERS[part](found), origin])
        groups += _GROUPS[part](found) if part in _GROUPS else []
    if groups:
        shown["subgroups"] = "\n\n".join(groups)
    before = read_card(model / "README.md" if card is None else card)
    held_out, environment = (_held_out(run), _environment(run)) if is_run(run) else ({}, {})
    try:
        text = render_card(
            facts,
            results=shown,
            remarks=remarks,
            held_out=held_out,
            environment=environment,
            run=_typed(folder),
            licence=licence if licence is not None or before is None else before.licence,
            own="" if before is None else before.own,
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{model / 'model.json'} was not written by medgan: {error!r}.") from error
    return ModelCard(text, model, used, remarks)


def write_card(card: ModelCard, path: Path | None = None) -> Path:
    """Write a card; one that was edited by hand outside of its owner's part is left alone.

    Args:
        card: What `make_card` returned.
        path: The file; None for the model's ``README.md``.

    Returns:
        The file.

    Raises:
        ConfigError: If what is there was edited, or is no card.
        CheckpointError: If it cannot be written.
    """
    path = card.model / "README.md" if path is None else path
    before = read_card(path)
    if before is not None and before.edited:
        raise ConfigError(
            f"{path} was edited by hand, or is no card of medgan's, and is left alone. Move what you wrote between the "
            f"markers of a fresh card: rename the file to {path.with_name('README.edited.md')} and type the command "
            "again. Or write the card elsewhere, with --out."
        )
    with write_aside(path) as temporary:
        temporary.write_text(card.text, encoding="utf-8", errors="replace")
    return path


# ------------------------------------------------------------------------------------------- files of results


class _Results:
    """A file of results; whatever is asked of it is checked.

    Args:
        path: The file.
        part: What its results are.

    Raises:
        DataError: If it cannot be read, or is no JSON object.
    """

    def __init__(self, path: Path, part: str) -> None:
        """Read the file."""
        self.path, self.part = path, part
        try:
            if path.stat().st_size > _LARGEST:
                raise self.damaged(f"it has more than {_LARGEST:,} bytes")
            self.values: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=self._no_number)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise self.damaged(f"it is no JSON ({error})") from error
        if not isinstance(self.values, dict):
            raise self.damaged(f"it holds a {type(self.values).__name__}, not an object")

    def damaged(self, reason: str) -> DataError:
        """Return the error for a file that is not what it should be."""
        command = RESULTS[self.part].command
        return DataError(
            f"{self.path} is not what `{command}` writes: {reason}. Run it again, or move the file out of the run."
        )

    def _no_number(self, text: str) -> float:
        raise self.damaged(f"{text} is no number of JSON")

    def get(self, kind: type | tuple[type, ...], *keys: str | int, of: Any = None) -> Any:
        """Return a value by its keys; None if it, or what should hold it, is missing or null.

        Args:
            kind: Its type.
            keys: Where it is.
            of: Where to begin; None for the whole file.

        Raises:
            DataError: If it has another type.
        """
        value = self.values if of is None else of
        for key in keys:
            if value is None:
                return None
            if not isinstance(value, dict if isinstance(key, str) else list):
                raise self.damaged(f"{'.'.join(map(str, keys))} is not where it should be")
            value = value.get(key) if isinstance(value, dict) else value[int(key)] if int(key) < len(value) else None
        wrong = isinstance(value, bool) and kind is not bool  # which is an int to Python
        if value is not None and (wrong or not isinstance(value, kind)):
            raise self.damaged(f"{'.'.join(map(str, keys))} is a {type(value).__name__}")
        return value

    def number(self, *keys: str, of: Any = None) -> float | None:
        """Return a finite number; None if it is missing or null."""
        value = self.get((int, float), *keys, of=of)
        if value is None:
            return None
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
        raise self.damaged(f"{'.'.join(keys)} is {str(value)[:20]}, no number that was measured")

    def count(self, *keys: str, of: Any = None) -> str:
        """Return a whole number as text; "unknown" if it is missing."""
        value = self.number(*keys, of=of)
        return "unknown" if value is None else f"{value:,.0f}"

    def objects(self, *keys: str, of: Any = None) -> list[dict[str, Any]]:
        """Return a list of objects."""
        values: list[Any] = self.get(list, *keys, of=of) or []
        for value in values:
            if not isinstance(value, dict):
                raise self.damaged(f"{'.'.join(keys)} holds a {type(value).__name__}")
        return values

    def sentences(self, *keys: str) -> list[str]:
        """Return a list of sentences; one by itself counts as a list."""
        value = self.get((list, str), *keys)
        texts = [value] if isinstance(value, str) else value or []
        for text in texts:
            if not isinstance(text, str):
                raise self.damaged(f"{'.'.join(keys)} holds a {type(text).__name__}")
        return texts[:_SENTENCES]

    @property
    def weights(self) -> set[str]:
        """Checksums of the models that it is of; empty if it does not say."""
        found = {self.get(str, "weights_sha256"), self.get(str, "settings", "weights_sha256")}
        if self.part in ("study", "audit"):
            found.add(self.get(str, "facts", "weights_sha256"))
        studies = [self.values] if self.get(dict, "facts") is not None else []
        studies += [{"facts": study} for study in self.objects("studies")]
        for study in studies:
            found |= {
                self.get(str, "weights_sha256", of=each) for each in self.objects("facts", "generators", of=study)
            }
        return {text for text in found if text}


def _find(part: str, run: Path | None, named: Path | None, sha256: str) -> tuple[_Results | None, str]:
    """Return the results of a part, and a remark on those that are not shown."""
    if named is not None:
        path = Path(named).expanduser()
        if path.is_dir():
            inside = [path / name for name in RESULTS[part].files if (path / name).is_file()]
            if not inside:
                raise DataError(f"{path} holds no {' or '.join(RESULTS[part].files)} of `{RESULTS[part].command}`.")
            path = inside[0]
        found = _Results(path, part)
        if _is_of(found, sha256):
            return found, ""
        raise ConfigError(
            f"{path} is of other weights than this model ({sha256[:12]}): its results say nothing about it. Type "
            f"`{RESULTS[part].command}` again."
        )
    if run is None:
        return None, ""
    remark = ""
    for path in _candidates(run, part):
        found = _Results(path, part)
        if _is_of(found, sha256):
            return found, ""
        remark = remark or (
            f"**Out of date.** {escape(_name(path, run))} is of other weights than this model, and is not shown."
        )
    return None, remark


def _is_of(found: _Results, sha256: str) -> bool:
    """Whether results may be of a model; of a cross-validation none is, as it trains its own."""
    return found.path.name == "cross-validation.json" or not found.weights or sha256 in found.weights


def _candidates(run: Path, part: str) -> list[Path]:
    """Return the files that may hold results of a part, the newest first."""
    names = RESULTS[part].files
    found = [path for name in names for depth in ("*", "*/*") for path in run.glob(f"{depth}/{name}")]
    inside = [path for path in found if path.is_file() and path.resolve().is_relative_to(run.resolve())]
    return sorted(inside, key=lambda path: (-path.stat().st_mtime_ns, str(path)))


def _typed(folder: Path) -> str:
    """Return a folder as it can be typed here; ``RUN`` for one elsewhere, as a card goes to others."""
    inside, here = folder.resolve(), Path.cwd()
    if inside == here or not inside.is_relative_to(here):
        return "RUN"
    return shlex.quote(inside.relative_to(here).as_posix())


def _name(path: Path, run: Path) -> str:
    """Return a file's name for a card, which goes to others: its place in the run."""
    inside = path.resolve()
    return inside.relative_to(run).as_posix() if inside.is_relative_to(run) else path.name


# --------------------------------------------------------------------------------------------------- the parts


def _bullets(sentences: Sequence[str]) -> str:
    """Return sentences as a list."""
    return "\n".join(f"- {escape(sentence, begins_line=True)}" for sentence in sentences)


def _cell(number: float | None, digits: int = 3) -> str:
    """Write a number in a cell."""
    return "" if number is None else f"{number:.{digits}g}" if abs(number) < 1000 else f"{number:,.0f}"


def _interval(found: _Results, of: Any) -> str:
    """Write an interval in a cell."""
    low, high = found.number("low", of=of), found.number("high", of=of)
    return "" if low is None or high is None else f"{_cell(low)} to {_cell(high)}"


def _with_interval(found: _Results, of: Any) -> str:
    """Write a number with its interval."""
    value, interval = _cell(found.number("value", of=of)), _interval(found, of)
    return f"{value} ({interval})" if value and interval else value


def _estimate(found: _Results, scores: Any, name: str) -> str:
    """Write one of several scores with its interval."""
    return _with_interval(found, found.get(dict, name, of=scores) or {})


def _metric_rows(found: _Results, scores: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield the cells of scores of `medgan metrics`."""
    for score in scores[:_LINES]:
        floor, interval = found.get(dict, "floor", of=score), found.get(dict, "interval", of=score)
        p_value = found.number("p_corrected", of=score)
        yield [
            found.get(str, "title", of=score) or found.get(str, "metric", of=score) or "",
            _cell(found.number("value", of=score)) or found.get(str, "note", of=score) or "not computed",
            "" if interval is None else _interval(found, interval),
            f"{found.count('real_images', of=score)} / {found.count('synthetic_images', of=score)}",
            ""
            if floor is None
            else f"{_cell(found.number('mean', of=floor))} ± {_cell(found.number('spread', of=floor))}",
            "" if floor is None else found.count("images", of=floor),
            "" if floor is None else _cell(found.number("synthetic", of=floor)),
            _cell(found.number("relative", of=score)),
            _cell(p_value),
        ]


_METRIC_COLUMNS = (
    *("metric", "value", "95 % interval", "N real / synthetic", "floor: real against real"),
    *("floor's N", "value at that N", "times the floor", "p"),
)


def _read_metrics(found: _Results) -> list[str]:
    """Return the part on likeness."""
    scores = [score for score in found.objects("scores") if found.get(str, "group", of=score) == "all images"]
    real, patients = found.count("real", "images"), found.number("real", "patients")
    of_whom = "unknown patients" if patients is None else f"{patients:,.0f} patients"
    reference = (found.get(str, "settings", "reference") or "real images").partition(" of ")[0]
    samples = found.number("synthetic", "samples") or 1
    each = found.count("synthetic", "images")
    lead = (
        f"{real} real images of {of_whom} ({reference} of {found.get(str, 'real', 'name') or 'unknown data'}) beside "
        f"{samples:,.0f} × {each} synthetic ones; seed {found.count('settings', 'seed')}, "
        f"{found.count('settings', 'halvings')} halvings. The floor is what two halves of the real patients give; 1 "
        "time the floor is as near as other real patients are."
    )
    blocks = [escape(lead), markdown_rows(_METRIC_COLUMNS, list(_metric_rows(found, scores)))]
    extractors = [
        f"{found.get(str, 'name', of=each)} (SHA-256 {(found.get(str, 'sha256', of=each) or 'unknown')[:12]})"
        for each in found.objects("extractors")
    ]
    if extractors:
        blocks.append(escape(f"Features: {', '.join(extractors)}."))
    if warnings := found.sentences("warnings"):
        blocks.append(f"What limits it:\n\n{_bullets(warnings)}")
    return blocks


def _metric_groups(found: _Results) -> list[str]:
    """Return the metrics of each class."""
    scores = [score for score in found.objects("scores") if found.get(str, "group", of=score) != "all images"]
    rows = [
        [found.get(str, "group", of=score) or "", *cells]
        for score, cells in zip(scores, _metric_rows(found, scores), strict=False)
    ]
    return [f"Likeness by class:\n\n{markdown_rows(('class', *_METRIC_COLUMNS), rows)}"] if rows else []


_SHOWN_SCORES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "brier": "Brier score"}


def _read_evaluation(found: _Results) -> list[str]:
    """Return the part on classifiers."""
    if found.path.name == "cross-validation.json":
        return _read_cross_validation(found)
    blocks = []
    if banners := found.sentences("facts", "banners"):
        blocks.append(f"**This study is void:**\n\n{_bullets(banners)}")
    if verdict := found.sentences("verdict", "sentences"):
        blocks.append(_bullets(verdict))
    parts = [
        f"{found.count('cohorts', name, 'images')} {word} images of {found.count('cohorts', name, 'patients')} "
        f"{found.get(str, 'cohorts', name, 'unit') or 'patient'}s"
        for name, word in (("test", "test"), ("validation", "validation"))
    ]
    classifier = found.get(str, "facts", "classifier", "name") or "unknown"
    seed = found.number("settings", "seed")
    data, steps = found.get(str, "facts", "real", "name") or "unknown data", found.count("facts", "steps")
    unseen = (
        ""
        if banners or found.number("cohorts", "test", "unknown_patients")
        else ", whom neither classifiers nor generator have seen"
    )
    text = (
        f"Classifier {classifier}, {steps} steps each; {' and '.join(parts)} of {data}{unseen}; "
        f"intervals of 95 % over patients and trainings, from {found.count('settings', 'replicates')} replicates, seed "
        f"{'unknown' if seed is None else f'{seed:.0f}'}."
    )
    blocks.append(escape(text))
    rows = []
    for result in found.objects("results")[:_LINES]:
        scores = found.get(dict, "scores", of=result) or {}
        rows.append(
            [
                found.get(str, "title", of=result) or found.get(str, "arm", of=result) or "",
                f"{found.number('fraction', of=result) or 0:.0%}",
                found.count("counts", "real_images", of=result),
                found.count("counts", "synthetic_images", of=result),
                str(len(found.get(list, "seeds", of=result) or [])),
                *(_estimate(found, scores, name) for name in _SHOWN_SCORES),
            ]
        )
    columns = ("trained on", "of the patients", "real images", "synthetic images", "trainings", *_SHOWN_SCORES.values())
    blocks.append(markdown_rows(columns, rows))
    if notes := [*found.sentences("verdict", "notes"), *found.sentences("facts", "notes")]:
        blocks.append(f"What limits it:\n\n{_bullets(notes)}")
    return blocks


def _read_cross_validation(found: _Results) -> list[str]:
    """Return the part on classifiers, from a cross-validation."""
    name, images = found.get(str, "real", "name") or "unknown data", found.count("real", "images")
    text = (
        f"Cross-validation: {found.count('folds')} folds by {found.get(str, 'real', 'unit') or 'patient'} of {images} "
        f"images of {name}, with a generator trained anew for each fold with this model's options, so that these are "
        "results of the method, not of these weights. Intervals of 95 % over folds."
    )
    rows = []
    for arm in found.objects("arms")[:_LINES]:
        scores = found.get(dict, "scores", of=arm) or {}
        difference = found.get(dict, "auroc", "difference", of=scores)
        rows.append(
            [
                found.get(str, "title", of=arm) or found.get(str, "arm", of=arm) or "",
                f"{found.number('fraction', of=arm) or 0:.0%}",
                *(_estimate(found, scores, name) for name in _SHOWN_SCORES),
                "" if difference is None else _with_interval(found, difference),
                "" if difference is None else _cell(found.number("p_holm", of=difference)),
            ]
        )
    columns = ("trained on", "of the patients", *_SHOWN_SCORES.values(), "AUROC less that of real images", "p (Holm)")
    return [escape(text), markdown_rows(columns, rows)]


def _evaluation_groups(found: _Results) -> list[str]:
    """Return the results of classifiers by subgroup."""
    blocks = []
    for column in found.objects("subgroups", "columns"):
        groups = {str(found.get(str, "group", of=group)): group for group in found.objects("groups", of=column)}
        rows = []
        for result in found.objects("results", of=column):
            scores = found.get(dict, "groups", of=result) or {}
            for name, group in groups.items():
                estimates = found.get(dict, name, of=scores) or {}
                rows.append(
                    [
                        name,
                        found.count("images", of=group),
                        f"{found.count('patients', of=group)}{' (few)' if found.get(bool, 'small', of=group) else ''}",
                        found.get(str, "title", of=result) or found.get(str, "arm", of=result) or "",
                        *(_estimate(found, estimates, score) for score in _SHOWN_SCORES),
                    ]
                )
        name = found.get(str, "column", of=column) or "unknown"
        columns = ("group", "test images", "patients", "trained on", *_SHOWN_SCORES.values())
        blocks.append(f"Classifiers by {escape(name)}:\n\n{markdown_rows(columns, rows[:_LINES])}")
    left_out = [
        f"{found.get(str, 'column', of=each)}: {found.get(str, 'reason', of=each)}"
        for each in found.objects("subgroups", "left_out")
    ]
    return [*blocks, f"Not reported:\n\n{_bullets(left_out)}"] if blocks and left_out else blocks


def _excess(found: _Results, copies: Any) -> str:
    """Write an excess copy rate with its interval."""
    if copies is None:
        return "too few patients"
    excess = _cell(found.number("excess", of=copies))
    return f"{excess} ({interval})" if (interval := _interval(found, copies)) and excess else excess


def _read_audit(found: _Results) -> list[str]:
    """Return the part on privacy."""
    verdict = found.get(str, "verdict")
    if verdict is None:
        raise found.damaged("it holds no verdict")
    sentences = found.sentences("sentences") or [f"Verdict: {verdict}."]
    sides = [
        f"{found.count(side, 'images')} images of {found.count(side, 'patients')} patients {words}"
        for side, words in (("training", "of the training"), ("held_out", "held out"))
    ]
    lead = (
        f"{found.count('synthetic', 'images')} synthetic images beside {' and '.join(sides)}; level "
        f"{_cell(found.number('settings', 'level')) or 'unknown'}, seed {found.count('settings', 'seed')}. "
        f"{found.count('identical')} synthetic images are training images, pixel by pixel."
    )
    rows = []
    for space in found.objects("spaces")[:_LINES]:
        copies, control = found.get(dict, "copies", of=space), found.get(dict, "control", of=space)
        caught = found.get(dict, "membership", "caught", of=space)
        attack = found.get(dict, "membership", "attack", of=space) or {}
        area = _cell(found.number("area", of=attack))
        rows.append(
            [
                found.get(str, "space", of=space) or "",
                f"{found.count('flagged', of=copies or {})} of {found.count('images', of=copies or {})}",
                _excess(found, copies),
                _excess(found, control),
                _excess(found, caught),
                f"{area} ({interval})" if area and (interval := _interval(found, attack)) else area,
            ]
        )
    columns = ("in", "flagged", "excess copy rate", "control", "caught members in excess", "AUC of the attack")
    findings = [
        [
            found.get(str, "test", of=each) or "",
            found.get(str, "space", of=each) or "",
            _cell(found.number("corrected", of=each)),
            "yes" if found.get(bool, "detected", of=each) else "no",
            "yes" if found.get(bool, "specific", of=each) else "no",
        ]
        for each in found.objects("findings")[:_LINES]
    ]
    blocks = [_bullets(sentences), escape(lead)]
    if rows:
        blocks.append(markdown_rows(columns, rows))
    if findings:
        blocks.append(markdown_rows(("test", "in", "p (Holm)", "detected", "more than the control"), findings))
    if warnings := found.sentences("warnings"):
        blocks.append(f"What limits it:\n\n{_bullets(warnings)}")
    return blocks


def _audit_groups(found: _Results) -> list[str]:
    """Return copies by subgroup."""
    rows = [
        [
            found.get(str, "column", of=each) or "",
            found.get(str, "group", of=each) or "",
            found.get(str, "space", of=each) or "",
            found.count("training_patients", of=each),
            found.count("synthetic", of=each),
            _excess(found, found.get(dict, "copies", of=each)),
        ]
        for each in found.objects("subgroups")[:_LINES]
    ]
    columns = ("by", "group", "in", "training patients", "synthetic images near them", "excess copy rate")
    return [f"Copies by subgroup:\n\n{markdown_rows(columns, rows)}"] if rows else []


def _read_claims(found: _Results) -> list[str]:
    """Return a part by the interface of ``analysis.json``."""
    blocks = []
    if claim := found.sentences("claim"):
        blocks.append(_bullets(claim))
    rows = [
        [
            found.get(str, "measure", of=result) or "",
            found.get(str, "who", of=result) or "",
            _cell(found.number("value", of=result)),
            _interval(found, result),
            found.count("count", of=result),
            found.get(str, "interval_for", of=result) or "",
        ]
        for result in found.objects("results")[:_LINES]
    ]
    if rows:
        blocks.append(markdown_rows(("measure", "of", "value", "95 % interval", "N", "interval for"), rows))
    facts = found.get(dict, "facts") or {}
    plain = [(key, value) for key, value in facts.items() if isinstance(value, str | int | float)]
    if plain:
        blocks.append(markdown_rows(("", ""), plain[:_LINES]))
    if limits := found.sentences("limits"):
        blocks.append(f"What limits it:\n\n{_bullets(limits)}")
    if not blocks:
        raise found.damaged("it holds none of claim, results, facts and limits")
    return blocks


_Reader = Callable[[_Results], list[str]]
_READERS: Mapping[str, _Reader] = MappingProxyType(
    {"metrics": _read_metrics, "evaluation": _read_evaluation, "study": _read_claims, "audit": _read_audit}
)
_GROUPS: Mapping[str, _Reader] = MappingProxyType(
    {"metrics": _metric_groups, "evaluation": _evaluation_groups, "audit": _audit_groups}
)


# ------------------------------------------------------------------------------------------------ of the run itself


def _held_out(run: Path) -> dict[str, str]:
    """Say whom a run held out, and how that was drawn."""
    import pandas as pd

    splits = Splits.read(run / "data" / "splits.json")
    patients: dict[str, str] = {}
    if (run / "data" / "index.csv").is_file():
        try:
            index = pd.read_csv(
                run / "data" / "index.csv", dtype=str, keep_default_na=False, encoding_errors="surrogateescape"
            )
            patients = dict(zip(image_identities(index), index["patient_id"], strict=True))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{run / 'data' / 'index.csv'} is damaged: {error}.") from error
    rows = {}
    for part, images in splits.parts.items():
        if part == "train":
            continue
        known = {patients.get(image, "") for image in images} - {""}
        of_whom = f"{len(known):,} patients" if known else "unknown patients"
        rows[f"Held out for {part}"] = f"{len(images):,} images of {of_whom}"
    how = {"patient": "by patient", "image": "by image, not by patient", "source": "as the data itself says"}
    rows["Division"] = f"{how[splits.by]}, seed {splits.seed}" if rows else "nobody was held out"
    return rows


def _environment(run: Path) -> dict[str, str]:
    """Say with what a run trained."""
    options = read_config(run / "config.json")
    return {
        title: str(options[name])
        for name, title in (("device", "Device"), ("precision", "Precision"), ("pipeline", "Preprocessing"))
        if isinstance(options.get(name), str)
    }
