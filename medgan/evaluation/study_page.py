"""The report of a study: a page for reading, tables for a paper, and numbers for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan.core.saving import write_aside
from medgan.evaluation.claims import SIGNIFICANCE
from medgan.evaluation.records import Study
from medgan.evaluation.study_figures import (
    ForestRow,
    calibration_figure,
    confusion_figure,
    curve_figure,
    forest_figure,
    fraction_figures,
    image_figure,
    loss_figure,
    loss_limit,
)
from medgan.evaluation.study_tables import (
    CALIBRATION,
    DECISIONS,
    RANKING,
    arms_table,
    cell,
    comparisons_table,
    largest,
    paper_table,
    per_class_table,
    predictions_frame,
    runs_frame,
    runs_table,
    subgroups_table,
)
from medgan.evaluation.tables import as_table
from medgan.pages import Code, Figure, Gallery, Note, Page, Section, Table, Text

if TYPE_CHECKING:
    from torch import Tensor

    from medgan.pages.page import Block

__all__ = ["write_study_report"]

_COMPARISONS_IN_FULL = 4
_FLIPS_SHOWN = 6  # images of each kind and comparison
_CLASSES_DRAWN = 8  # whose own curves are drawn
_DAGGER = "†: more than 5 % of the bootstrap samples had no value."

ImagesAt = Callable[[NDArray[np.int64]], "Tensor"]
Result = Mapping[str, Any]
Summary = Mapping[str, Any]


def write_study_report(
    study: Study, summary: Mapping[str, Any], folder: Path, *, images_at: ImagesAt | None = None
) -> Path:
    """Write what a study found, for readers and for programs.

    Args:
        study: The study.
        summary: Of `medgan.evaluation.summary.summarise`; every number of the page is from it.
        folder: Folder to write into: ``index.html``, ``summary.json``, ``arms.csv`` (a row an arm and share of real
            patients), ``runs.csv`` (a row a training), ``predictions.csv`` (a row a test image) and ``arms.md`` (a
            table for a paper). Files of an earlier report are replaced, each when the new one is complete.
        images_at: Gives test images by their positions, ``(n, C, *size)`` in [-1, 1]; without it no image is shown.

    Returns:
        The page.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    texts = {
        "summary.json": json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "arms.csv": as_table(summary).to_csv(index=False),
        "runs.csv": runs_frame(summary).to_csv(index=False),
        "predictions.csv": predictions_frame(study).to_csv(index=False, float_format="%.7g"),
        "arms.md": paper_table(summary),
    }
    page = _Report(study, summary, images_at).page()
    for name, text in texts.items():
        with write_aside(folder / name) as aside:
            aside.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files need not be UTF-8
    page.write(folder / "index.html")
    return folder / "index.html"


class _Report:
    """Puts a page together, section by section."""

    def __init__(self, study: Study, summary: Summary, images_at: ImagesAt | None) -> None:
        self.study, self.summary, self.images_at = study, summary, images_at
        self.facts: Mapping[str, Any] = summary.get("facts") or {}
        self.settings = summary["settings"]
        self.baseline: str = self.settings["baseline"]
        self.primary: str = self.settings["primary"]
        self.primary_title: str = summary["scores"][self.primary]["title"]
        self.sign = 1 if summary["scores"][self.primary]["better"] == "higher" else -1
        self.results = largest(summary)
        self.others = [result for result in self.results if result["arm"] != self.baseline]
        self.reference = next((result for result in self.results if result["arm"] == self.baseline), None)
        self.test = summary["cohorts"]["test"]
        self.shown_files: list[list[str]] = []

    def page(self) -> Page:
        """Return the whole page."""
        makers: Sequence[Callable[[], Section | None]] = (
            self._arms,
            self._comparisons,
            self._fractions,
            self._curves,
            self._decisions,
            self._calibration,
            self._classes,
            self._subgroups,
            self._on_synthetic,
            self._flips,
            self._losses,
            self._provenance,
            self._paper,
            self._all_shares,
            self._all_differences,
            self._all_groups,
            self._class_curves,
            self._all_losses,
            self._runs,
            self._flip_files,
            self._terms,
        )
        sections = [section for make in makers if (section := make()) is not None]
        versions = self.facts.get("versions") or {}
        return Page(
            str(self.facts.get("title") or "What are the synthetic images worth?"),
            self._lead(),
            self._opening(),
            sections,
            {str(name): str(number) for name, number in versions.items() if number is not None},
        )

    # ------------------------------------------------------------------------------------------ opening

    def _lead(self) -> str:
        """Say what was asked, and how it was answered."""
        classifier = (self.facts.get("classifier") or {}).get("name")
        name = (self.facts.get("real") or {}).get("name")
        seeds = sorted({len(result["seeds"]) for result in self.summary["results"]})
        times = " or ".join(map(str, seeds))
        positive = self.summary["positive"]
        classes = self.summary["classes"]
        task = {
            "binary": f"tell {positive} from {next((name for name in classes if name != positive), '')}",
            "multiclass": f"tell {len(classes)} classes apart",
            "multilabel": f"recognise {_count(len(classes), 'finding')}",
        }[self.summary["kind"]]
        return (
            f"Asked: does a classifier that learns from synthetic images, alone or beside real ones, {task} on "
            "real patients as well as one that learns from real images? "
            f"Done: {'one classifier' if classifier is None else f'the classifier {classifier}'} was trained "
            f"{times} {'time' if seeds == [1] else 'times'} on each of {_count(len(self.results), 'training set')}"
            f"{'' if name is None else f' made from {name}'}, and tested on "
            f"{_count(self.test['images'], 'real image')} of {self._patients}, none of "
            f"{'which' if self.test['unknown_patients'] else 'whom'} a classifier was trained on."
        )

    def _opening(self) -> list[Block]:
        """Return what makes the study void, what it found, what limits it, and the main numbers in a picture."""
        verdict = self.summary["verdict"]
        blocks: list[Block] = [Note(str(banner), "danger") for banner in self.facts.get("banners") or []]
        void = bool(self.facts.get("banners"))
        if found := self._found():
            blocks.append(Note("Found, but void for the reason above:" if void else "Found:", "verdict", found))
        blocks.append(
            Gallery(self._glance(), f"{self.primary_title} on the test patients, with {self._confidence} intervals.")
        )
        notes = list(dict.fromkeys(str(note) for note in [*verdict["notes"], *(self.facts.get("notes") or [])]))
        if notes:
            blocks.append(Note("To be read with it:", "warning", notes))
        return blocks

    def _found(self) -> list[str]:
        """Return the verdict: what may be claimed of each comparison, or of many, which of them share a claim."""
        comparisons = self.summary["comparisons"]
        if len(comparisons) <= _COMPARISONS_IN_FULL:
            return [" ".join(item["sentences"]) for item in comparisons]
        references = dict.fromkeys((item["reference"], item["reference_title"]) for item in comparisons)
        return [
            claim
            for name, title in references
            for claim in self._claims([item for item in comparisons if item["reference"] == name], title)
        ]

    def _claims(self, comparisons: Sequence[Mapping[str, Any]], reference: str) -> Iterator[str]:
        """Yield what is shown of many comparisons with one reference, and of which arms."""
        corrected = f"(after Holm's correction for {len(self.summary['comparisons'])} comparisons)"
        margin = f"the margin of {self.settings['margin']:g}"
        claims: dict[str, tuple[str, list[str]]] = {
            "noninferior": (f"Non-inferior to {reference} at {margin}", []),
            "inferior": (f"Inferior to {reference} by more than {margin}", []),
            "better": (f"Better than {reference} {corrected}", []),
            "worse": (f"Worse than {reference} {corrected}", []),
            "not_shown": (f"Neither non-inferiority nor inferiority to {reference} shown at {margin}", []),
            "undefined": (f"Not comparable with {reference}, as there is no interval", []),
            "no_difference": (
                f"No difference from {reference} shown {corrected}, which does not show that there is none",
                [],
            ),
        }
        for item in comparisons:
            score = item["scores"][self.primary]
            claims[item["noninferiority"]["outcome"]][1].append(item["title"])
            if score["p_holm"] is not None and score["p_holm"] < SIGNIFICANCE:
                claims["better" if self.sign * score["value"] > 0 else "worse"][1].append(item["title"])
            elif item["noninferiority"]["outcome"] != "undefined":
                claims["no_difference"][1].append(item["title"])
        yield from (f"{claim}: {'; '.join(titles)}." for claim, titles in claims.values() if titles)

    def _glance(self) -> list[Figure]:
        """Draw the primary score of every arm, and its difference from the baseline."""
        rows = [
            ForestRow(result["title"], result["scores"].get(self.primary), result["arm"] == self.baseline)
            for result in self.results
        ]
        figures = [forest_figure(rows, self.primary_title, alt=f"{self.primary_title} of every arm with its interval")]
        against = [item for item in self.summary["comparisons"] if item["reference"] == self.baseline]
        full = {result["arm"]: result["fraction"] for result in self.results}
        against = [item for item in against if item["fraction"] == full.get(item["arm"])]
        if against:
            found = {item["arm"]: item["scores"].get(self.primary) for item in against}
            differences = [
                ForestRow(result["title"], found.get(result["arm"]), result["arm"] == self.baseline)
                for result in self.results
            ]
            title = against[0]["reference_title"]
            figures.append(
                forest_figure(
                    differences,
                    f"difference in {self.primary_title} from {title}",
                    alt=f"Difference in {self.primary_title} from {title}, with intervals",
                    difference=True,
                    limit=-self.sign * self.settings["margin"],
                )
            )
        return figures

    # ------------------------------------------------------------------------------------------ results

    def _arms(self) -> Section:
        caption = (
            f"Mean over the seeds with its {self._confidence} interval, {self._judged}. "
            "TRTR: trained on real images, tested on real images; TSTR: trained on synthetic images only, tested on "
            f"real images. {self._averaging} A value is bold where its whole interval is better than those of all "
            "other arms; where intervals overlap, none is. The last line needs no image: every probability is the "
            f"share in the validation images. {self._dagger(self.results)}"
        )
        return Section(
            "Arms", [arms_table(self.summary, self.results, RANKING, caption=caption.strip(), training=True)]
        )

    def _comparisons(self) -> Section | None:
        if not self.summary["comparisons"]:
            return None
        margin = self.settings["margin"]
        side = f"above −{margin:g}" if self.sign > 0 else f"below +{margin:g}"
        caption = (
            "Arm minus reference on the same test patients and with the same seeds, which tells more than two "
            "intervals side by side. p: two-sided, for no difference; p (Holm): corrected for the number of "
            f"comparisons in this table. Non-inferiority is shown where the whole interval lies {side}, the loss of "
            f"{self.primary_title} that was declared acceptable before the study; “not shown” does not mean worse."
        )
        blocks: list[Block] = [comparisons_table(self.summary, [self.primary], caption=caption)]
        sentences = [" ".join(item["sentences"]) for item in self.summary["comparisons"]]
        if sentences != self._found():
            blocks.append(Note("In words:", "verdict", sentences))
        return Section("Comparisons", blocks)

    def _fractions(self) -> Section | None:
        entries = self.summary["fractions"]
        if not entries:
            return None
        baseline = next((entry for entry in entries if entry["arm"] == self.baseline), None)
        synthetic = next(
            (result for result in self.results if (result.get("counts") or {}).get("real_images") == 0), None
        )
        scores, gains = [], []
        for entry in [entry for entry in entries if entry["arm"] != self.baseline] or entries:
            reference = baseline if entry["arm"] != self.baseline else None
            score, gain = fraction_figures(entry, baseline=reference, synthetic=synthetic, title=self.primary_title)
            scores.append(score)
            gains += [gain] if gain else []
        caption = (
            f"{self.primary_title} when only a share of the real training patients is there, on a logarithmic axis; "
            f"bars are {self._confidence} intervals."
        )
        below = (
            f"Gain: the difference from {self._reference_title} at the same share, not corrected for the number of "
            "shares. The generator is the same at every share. If it was trained on all real training patients, a "
            "gain at a small share says what its images add to few patients, not what a generator of few patients "
            "could do."
        )
        blocks = [Gallery(scores, caption, width=20), *([Gallery(gains, below, width=20)] if gains else [])]
        return Section("Gain against the share of real data", blocks)

    def _curves(self) -> Section:
        of = self._mean_curve
        chance = self._prevalence(of) if of is not None else None
        roc, precision_recall = [], []
        for result in self.others or self.results:
            pair = list({item["arm"]: item for item in (self.reference, result) if item is not None}.values())
            roc.append(curve_figure("roc", pair, baseline=self.baseline, of=of))
            precision_recall.append(
                curve_figure("precision_recall", pair, baseline=self.baseline, of=of, chance=chance)
            )
        of_what = {
            "binary": f"Positive class: {self.summary['positive']}",
            "multiclass": "Mean over the classes, each against all others",
            "multilabel": "Mean over the findings",
        }[self.summary["kind"]]
        caption = (
            f"Each arm against {self._reference_title}. {of_what}. Lines are means over the seeds; bands are "
            f"{self._confidence} intervals point by point, so a curve as a whole leaves its band more often than "
            "that. Numbers are the areas under the curves."
        )
        below = "Precision and recall; by chance the precision is the share of positive images."
        return Section(
            "ROC and precision–recall curves",
            [Gallery(roc, caption, width=20), Gallery(precision_recall, below, width=20)],
        )

    def _decisions(self) -> Section:
        how = {
            "binary": (
                "An image counts as positive where its probability reaches the threshold, which was chosen for each "
                "training on the validation patients (largest sum of sensitivity and specificity), never on the test "
                f"patients. Positive class: {self.summary['positive']}."
            ),
            "multiclass": "The prediction is the class with the highest probability. Scores are means over classes.",
            "multilabel": (
                "A finding counts as present where its probability reaches the threshold, which was chosen for each "
                "training and finding on the validation patients (largest sum of sensitivity and specificity), never "
                "on the test patients. Scores are means over the findings."
            ),
        }[self.summary["kind"]]
        heat = [confusion_figure(result) for result in self.results]
        wide = self.summary["kind"] == "multiclass" and len(self.summary["classes"]) > 5
        caption = (
            "Confusion matrices: rows are the true class, columns the predicted one. The number of images is summed "
            "over the seeds, so every test image counts once a training; the percentage is of its row, as mean over "
            "the seeds."
        )
        table = arms_table(self.summary, self.results, DECISIONS, caption=how)
        title = "Decisions" if self.summary["kind"] == "multiclass" else "Decisions at the threshold"
        return Section(title, [table, Gallery(heat, caption, width=40 if wide else 18)])

    def _on_synthetic(self) -> Section | None:
        entries = self.summary["on_synthetic"]
        if not entries:
            return None
        names = [name for name in (*RANKING, *DECISIONS) if name in self.summary["scores"]]
        shares = len({entry["fraction"] for entry in entries}) > 1
        columns = ["Trained on", *(["Share"] if shares else [])]
        rows = [
            [entry["title"], *([f"{entry['fraction']:g}"] if shares else [])]
            + [cell(entry["scores"].get(name)) for name in names]
            for entry in entries
        ]
        caption = (
            f"Classifiers of real images, tested on {entries[0]['images']:,} synthetic images that nothing was trained "
            "on (TRTS). Low values mean images that do not show what their labels say; values above those on real "
            "patients mean images that are more typical of their class than real ones are."
        )
        columns += [self.summary["scores"][name]["title"] for name in names]
        return Section("Do the synthetic images show what they say?", [Table(columns, rows, caption)])

    def _calibration(self) -> Section:
        known = [name for name in CALIBRATION if name in self.summary["scores"]]
        caption = " ".join(
            f"{self.summary['scores'][name]['title']}: {_sentence(self.summary['scores'][name]['definition'])}"
            for name in known
        )
        drawn = min(_CLASSES_DRAWN, len(self.summary["classes"]))
        several = self.summary["kind"] != "binary" and drawn < len(self.summary["classes"])
        figures = [
            calibration_figure(result, bins=self.settings["bins"], baseline=result["arm"] == self.baseline)
            for result in self.results
            if result["curves"]["calibration"]
        ]
        below = (
            "Reliability diagrams: on the dotted line, of the images that got 80 % eight in ten are positive; below "
            "the line, probabilities are too high. The histogram shows how many images got which probability, as "
            "mean over the seeds."
            + (f" Of {len(self.summary['classes'])} classes the first {drawn} are drawn." if several else "")
        )
        blocks: list[Block] = [arms_table(self.summary, self.results, known, caption=caption)]
        if figures:
            blocks.append(Gallery(figures, below, width=20))
        return Section("Calibration", blocks)

    def _classes(self) -> Section | None:
        classes = self.test["classes"]
        word = "finding" if self.summary["kind"] == "multilabel" else "class"
        unknown = any(entry.get("unknown") for entry in classes)
        counts = Table(
            [
                word.capitalize(),
                "Test images",
                f"{self.test['unit'].capitalize()}s",
                *(["Not known"] if unknown else []),
            ],
            [
                [entry["class"], f"{entry['images']:,}", f"{entry['patients']:,}"]
                + ([f"{entry.get('unknown', 0):,}"] if unknown else [])
                for entry in classes
            ],
            f"Test images that show each {word}.",
        )
        against = "by itself" if word == "finding" else "against all others"
        caption = (
            f"Each {word} {against}, with {self._confidence} intervals; sensitivity is the recall of the "
            f"{word}. {self._dagger(self.results)}"
        )
        table = per_class_table(self.summary, self.results, caption=caption.strip())
        return Section(f"Scores of each {word}", [counts, table])

    def _subgroups(self) -> Section | None:
        groups = self.summary["subgroups"]
        left_out = [f"{item['column']}: {item['reason']}" for item in groups["left_out"]]
        if not groups["columns"] and not left_out:
            return None
        blocks: list[Block] = []
        worst = [self._worst(item) for item in groups["worst"]]
        if worst:
            small = self.settings["small_group"]
            blocks.append(
                Note(f"Group with the lowest AUROC, among those of at least {small} patients:", "warning", worst)
            )
        figures = [self._forest_of_groups(column) for column in groups["columns"]]
        if figures:
            caption = (
                f"AUROC by group, with {self._confidence} intervals; the square is {self._reference_title}. Groups are "
                "small, and nothing is corrected for their number: a difference between groups is a reason to look "
                "closer, not a finding."
            )
            blocks.append(Gallery(figures, caption))
        if left_out:
            blocks.append(Note("Not reported:", "warning", left_out))
        return Section("Subgroups", blocks)

    def _flips(self) -> Section | None:
        if not self.summary["flips"]:
            return None
        blocks: list[Block] = [
            Text(
                "Test images whose prediction, by the majority of the seeds, differs between an arm and its reference. "
                "They are extremes, those whose probability moved furthest first; how many there are of each kind is "
                "the finding, not what single images look like."
            )
        ]
        pictures = self._pictures()
        probability = {
            "binary": f"probability of {self.summary['positive']}",
            "multiclass": "probability of the truth",
            "multilabel": "probability of the finding",
        }[self.summary["kind"]]
        word = "image–finding pairs" if self.summary["kind"] == "multilabel" else "images"
        for flip in self.summary["flips"]:
            arm, reference = flip["title"], flip["reference_title"]
            where = "" if flip["fraction"] == 1 else f" (share {flip['fraction']:g})"
            blocks.append(
                Text(
                    f"{arm}{where} against {reference}: of {flip['judged']:,} {word}, {flip['changed']:,} changed; "
                    f"{flip['mended']:,} are right only with {arm}, {flip['broken']:,} only with {reference}."
                )
            )
            for images, right in ((flip["images_mended"], arm), (flip["images_broken"], reference)):
                tiles = [tile for image in images[:_FLIPS_SHOWN] if (tile := self._tile(image, flip, pictures))]
                if tiles:
                    caption = f"Right only with {right}. Truth: {probability} with {reference} → with {arm}."
                    blocks.append(Gallery(tiles, caption, width=9))
        return Section("Examples that flip", blocks)

    def _losses(self) -> Section | None:
        limit = loss_limit(self.results)
        if limit is None:
            return None
        caption = (
            "A line a seed, the same axis for all arms"
            + (" up to its upper end" if self._beyond(limit) else "")
            + "; a triangle marks the weights that were kept, those with the lowest loss on the real validation "
            "patients. Training losses are on each arm's own images, so they do not compare across arms."
        )
        figures = [loss_figure(result, limit=limit) for result in self.results]
        return Section("Training and validation loss", [Gallery(figures, caption, width=20)])

    # ------------------------------------------------------------------------------------------ details

    def _provenance(self) -> Section:
        facts = self.facts
        blocks: list[Block] = []
        parts = facts.get("parts") or {}
        cohorts: dict[str, Mapping[str, Any]] = {**parts} or dict(self.summary["cohorts"])
        if cohorts:
            rows = []
            for name, part in cohorts.items():
                counts = part.get("class_counts") or {
                    entry["class"]: entry["images"] for entry in part.get("classes") or []
                }
                rows.append(
                    [
                        {"train": "training"}.get(name, name),
                        *(f"{part[key]:,}" if part.get(key) is not None else "" for key in ("images", "patients")),
                        ", ".join(f"{label} {count:,}" for label, count in counts.items()),
                    ]
                )
            unknown = any(part.get("unknown_patients") for part in cohorts.values())
            apart = "where a patient is not known, each file counts as one" if unknown else "no patient is in two"
            blocks.append(Table(["Part", "Images", "Patients", "By class"], rows, f"Real images; {apart}."))
        table = [[name, text] for name, text in self._settings() if text]
        blocks.append(Table(["Setting", "Value"], table, "How the study was done."))
        for number, generator in enumerate(facts.get("generators") or [], start=1):
            rows = [[name, text] for name, text in _flat(generator)]
            title = "Generator" if len(facts["generators"]) == 1 else f"Generator {number}"
            if rows:
                blocks.append(Table([title, "Value"], rows))
        if facts.get("synthetic"):
            rows = [[name, text] for name, text in _flat(facts["synthetic"])]
            if rows:
                blocks.append(
                    Table(["Synthetic images", "Value"], rows, "What is known of the training of their model.")
                )
        if facts.get("command"):
            blocks += [Text("The command:"), Code(str(facts["command"]))]
        blocks.append(
            Text(
                "This is a measurement of images for the training of classifiers. It does not validate a classifier "
                "for patients."
            )
        )
        return Section("Settings and provenance", blocks)

    def _settings(self) -> Iterator[tuple[str, str]]:
        """Yield names and values; what is not known is empty."""
        facts, settings = self.facts, self.settings
        for name, text in _flat(facts.get("real") or {}):
            yield f"Real images: {name}", text
        image = facts.get("image") or {}
        if image.get("size"):
            yield (
                "Images as used",
                " × ".join(map(str, image["size"])) + f" pixels, {image.get('channels', 1)} channel(s)",
            )
        yield "Division of the patients", _plain(facts.get("division"))
        for name, text in _flat(facts.get("split") or {}):
            yield f"Split: {name}", text
        for name, text in _flat(facts.get("classifier") or {}):
            yield ("Classifier" if name == "name" else f"Classifier: {name}"), text
        yield "Optimizer steps of each training", _plain(facts.get("steps"))
        yield "Batch size", _plain(facts.get("batch_size"))
        seeds = sorted({seed for result in self.summary["results"] for seed in result["seeds"]})
        yield "Seeds", ", ".join(map(str, seeds))
        shares = sorted({result["fraction"] for result in self.summary["results"]})
        yield "Shares of the real training patients", ", ".join(f"{share:g}" for share in shares)
        yield "Truncation of the latents", _plain(facts.get("truncation"))
        bands = settings.get("band_replicates")
        yield (
            "Intervals and p-values",
            f"{settings['replicates']:,} bootstrap samples of patients, drawn with seed {settings['seed']}, and the "
            "variance between the seeds of training"
            + (f"; for curves and subgroups {bands:,} samples" if bands and bands < settings["replicates"] else ""),
        )
        yield "Margin of non-inferiority", f"{settings['margin']:g} {self.primary_title}"
        for name, part in (facts.get("parts") or {}).items():
            yield f"Fingerprint of the {name} images", _plain(part.get("fingerprint"))

    def _paper(self) -> Section:
        return Section("Table for a paper", [Code(paper_table(self.summary))], folded=True)

    def _all_shares(self) -> Section | None:
        if len(self.summary["results"]) == len(self.results):
            return None
        caption = f"Every arm at every share of the real training patients, {self._judged}."
        names = (*RANKING, "sensitivity", "specificity")
        table = arms_table(self.summary, self.summary["results"], names, caption=caption)
        return Section("All shares of real data", [table], folded=True)

    def _all_groups(self) -> Section | None:
        columns = self.summary["subgroups"]["columns"]
        if not columns:
            return None
        names = ("auroc", "sensitivity", "specificity")
        tables = [subgroups_table(self.summary, column, names, caption=f"By {column['column']}.") for column in columns]
        return Section("Subgroups in numbers", tables, folded=True)

    def _all_differences(self) -> Section | None:
        names = [name for name in self.summary["scores"] if name != self.primary]
        if not self.summary["comparisons"] or not names:
            return None
        caption = f"Arm minus reference with {self._confidence} intervals, not corrected for the number of scores."
        groups = [names[start : start + 4] for start in range(0, len(names), 4)]
        tables = [comparisons_table(self.summary, group, caption=caption) for group in groups]
        return Section("Differences in the other scores", tables, folded=True)

    def _class_curves(self) -> Section | None:
        classes = self.summary["classes"]
        if self.summary["kind"] == "binary":
            return None
        figures = []
        shown = [result for result in self.results if result["arm"] == self.baseline] + self.others
        for name in classes[:_CLASSES_DRAWN]:
            figures += [
                curve_figure("roc", shown[:8], baseline=self.baseline, of=name),
                curve_figure(
                    "precision_recall", shown[:8], baseline=self.baseline, of=name, chance=self._prevalence(name)
                ),
            ]
        caption = "Means over the seeds; with more than two arms without bands, which summary.json has."
        return Section("Curves of each class", [Gallery(figures, caption, width=20)], folded=True)

    def _all_losses(self) -> Section | None:
        rest = [result for result in self.summary["results"] if result not in self.results]
        limit = loss_limit(rest)
        if limit is None:
            return None
        figures = [loss_figure(result, limit=limit) for result in rest]
        return Section("Losses at smaller shares of real data", [Gallery(figures, width=20)], folded=True)

    def _runs(self) -> Section:
        caption = (
            "Every training; all scores are in runs.csv, the probabilities of every test image in predictions.csv."
        )
        return Section("Every training", [runs_table(self.summary, caption=caption)], folded=True)

    def _flip_files(self) -> Section | None:
        if not self.shown_files:
            return None
        columns = ["Comparison", "Right only with", "Truth", "File", "Patient"]
        return Section("Files of the examples that flip", [Table(columns, self.shown_files)], folded=True)

    def _terms(self) -> Section:
        better = {"higher": "higher", "lower": "lower", "one": "near 1"}
        rows = [
            [score["title"], better.get(score["better"], ""), _sentence(score["definition"])]
            for score in self.summary["scores"].values()
        ]
        return Section("What the scores mean", [Table(["Score", "Better", "Meaning"], rows)], folded=True)

    # ------------------------------------------------------------------------------------------ parts

    @property
    def _confidence(self) -> str:
        return f"{self.settings['confidence']:.0%}".replace("%", " %")

    @property
    def _judged(self) -> str:
        return f"on {_count(self.test['images'], 'test image')} of {self._patients}"

    @property
    def _patients(self) -> str:
        """Count the test patients, or the files where nobody knows whom they are of."""
        return _count(self.test["patients"], self.test["unit"])

    @property
    def _reference_title(self) -> str:
        return str(self.reference["title"]) if self.reference else self.baseline

    @property
    def _averaging(self) -> str:
        if self.summary["kind"] == "binary":
            return f"Positive class: {self.summary['positive']}."
        word = "findings" if self.summary["kind"] == "multilabel" else "classes"
        return f"Scores are means over the {word}, each of which counts the same however rare it is."

    @property
    def _mean_curve(self) -> str | None:
        """Whose curves stand for the arm: the positive class', or the mean over all."""
        return str(self.summary["positive"]) if self.summary["kind"] == "binary" else None

    def _prevalence(self, name: str) -> float | None:
        """Return the share of test images that show a class or finding."""
        entry = next((entry for entry in self.test["classes"] if entry["class"] == name), None)
        known = self.test["images"] - (entry.get("unknown", 0) if entry else 0)
        return entry["images"] / known if entry and known else None

    def _dagger(self, results: Sequence[Result]) -> str:
        """Explain the dagger where there is one."""
        cells = [
            cell(estimate)
            for result in results
            for scores in (result["scores"], *result["per_class"].values())
            for estimate in scores.values()
        ]
        return _DAGGER if any("†" in text for text in cells) else ""

    def _worst(self, item: Mapping[str, Any]) -> str:
        score = self.summary["scores"].get(item["score"], {}).get("title", item["score"])
        return f"{item['title']}: {item['column']} {item['group']}, {score} {cell(item)}."

    def _forest_of_groups(self, column: Mapping[str, Any]) -> Figure:
        """Draw the groups of a column, all arms below each."""
        rows = []
        for group in column["groups"]:
            rows.append(ForestRow(f"{group['group']} ({_count(group['patients'], self.test['unit'])})", heading=True))
            rows += [
                ForestRow(
                    result["title"],
                    result["groups"].get(group["group"], {}).get("auroc"),
                    result["arm"] == self.baseline,
                )
                for result in column["results"]
            ]
        return forest_figure(rows, f"AUROC by {column['column']}", alt=f"AUROC of every arm by {column['column']}")

    def _pictures(self) -> dict[str, Tensor]:
        """Read the images that are shown, each once."""
        if self.images_at is None:
            return {}
        wanted = {
            image["file"]
            for flip in self.summary["flips"]
            for images in (flip["images_mended"], flip["images_broken"])
            for image in images[:_FLIPS_SHOWN]
        }
        positions = np.flatnonzero(np.isin(self.study.test.files, sorted(wanted))).astype(np.int64)
        if not len(positions):
            return {}
        images = self.images_at(positions)
        return {str(self.study.test.files[position]): image for position, image in zip(positions, images, strict=True)}

    def _tile(self, image: Mapping[str, Any], flip: Mapping[str, Any], pictures: Mapping[str, Tensor]) -> Figure | None:
        """Return an image with its truth and both probabilities."""
        picture = pictures.get(image["file"])
        if picture is None:
            return None
        finding = f"{image['of']} " if self.summary["kind"] == "multilabel" else ""
        mended = image["predicted"] == image["truth"]
        arm, reference = flip["title"], flip["reference_title"]
        self.shown_files.append(
            [
                f"{arm} − {reference}",
                arm if mended else reference,
                finding + image["truth"],
                image["file"],
                image["patient"],
            ]
        )
        before, after = image["probability_reference"], image["probability"]
        caption = f"{finding}{image['truth']}: {before:.2f}\u00a0→\u00a0{after:.2f}"
        alt = (
            f"Test image, truth {finding}{image['truth']}; probability of {image['of']} {before:.2f} with {reference}, "
            f"{after:.2f} with {arm}"
        )
        return image_figure(picture, alt, caption)

    def _beyond(self, limit: float) -> bool:
        """Whether some loss is above the axis."""
        return any(
            (row.get(key) or 0) > limit
            for result in self.results
            for run in result["runs"]
            for row in run["history"]
            for key in ("training_loss", "validation_loss")
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _plain(value: Any) -> str:
    """Write a plain JSON value; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested facts with readable names; empty ones are left out."""
    for key, value in facts.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            for inner, text in _flat(value):
                yield f"{name}: {inner}", text
        elif text := _plain(value):
            yield name, text
