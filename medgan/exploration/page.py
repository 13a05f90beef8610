"""What an exploration looks like: sheets of pictures, and the page that explains them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from medgan.exploration.cases import Cases
from medgan.exploration.exploring import SHOWN, Exploration, RealImages
from medgan.exploration.parts import ClassDifference, ClassWalk
from medgan.pages import Figure, Note, Page, Scale, Section, Table, Text, Tile, make_sheet
from medgan.pages.page import Block

__all__ = ["Sheet", "make_page", "make_sheets"]

_EXAMPLES = 6
_UNEVEN = 3.0  # a largest step of so many mean ones is worth a word
_GREY = "of the range from black to white"


@dataclass(frozen=True)
class Sheet:
    """A picture of the page.

    Attributes:
        picture: The picture.
        alt: What it shows, for those who cannot see it.
        caption: What it shows, and on what.
    """

    picture: Image.Image
    alt: str
    caption: str

    def figure(self) -> Figure:
        """Return it as a block of a page; the browser shrinks it, and its letters, smoothly."""
        found = Figure.of_image(self.picture, self.alt, self.caption)
        return Figure(found.png, found.alt, found.caption)


def make_sheets(found: Exploration) -> dict[str, Sheet]:
    """Return all pictures of an exploration, by the name of their file without ``.png``."""
    sheets: dict[str, Sheet] = {}
    if found.differences:
        sheets["class-difference-map"] = _map_sheet(found)
        sheets["class-difference"] = _difference_sheet(found.differences[0])
    if found.walk is not None:
        sheets["class-walk"] = _walk_sheet(found.walk)
    if found.real is not None:
        sheets["inversion"] = _inversion_sheet(found.real)
    if found.cases:
        sheets["rare-cases"] = _rare_sheet(found.cases)
        if all(cases.leaning is not None for cases in found.cases):
            sheets["borderline-cases"] = _borderline_sheet(found.cases, found)
    if found.neighbours is not None and found.neighbour_images is not None:
        sheets["nearest-training"] = _neighbour_sheet(found)
    sheets["interpolation"] = _interpolation_sheet(found)
    sheets["truncation"] = _truncation_sheet(found)
    return sheets


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


# --------------------------------------------------------------------------------------- sheets


def _map_sheet(found: Exploration) -> Sheet:
    """Mean and spread of the differences, and the same of real images."""
    maps = [difference.mean for difference in found.differences]
    means = [*maps, *([] if found.real_difference is None else [found.real_difference.mean])]
    scale = Scale.for_values([mean.numpy() for mean in means], f"mean difference, {_GREY}")
    spreads = torch.stack([difference.spread for difference in found.differences])
    spread_scale = Scale.for_values([spreads.numpy()], "standard deviation over the latents", signed=False)
    tiles = list(zip(scale.tiles(torch.stack(maps)), spread_scale.tiles(spreads), strict=True))
    rows: list[list[Tile | None]] = [[*pair] for pair in tiles]
    columns = ["the model paints\n(mean)", "from latent to\nlatent (s. d.)"]
    if found.real_difference is not None:
        rows[0].append(scale.tiles(found.real_difference.mean[None])[0])
        columns.append("training images\n(mean of the classes)")
    names = [
        "\n".join([difference.contrast.names[1], "less", difference.contrast.names[0]])
        for difference in found.differences
    ]
    first = found.differences[0]
    picture = make_sheet(rows, row_names=names, column_names=columns, scales=[scale, spread_scale])
    caption = (
        f"Difference of the same {first.latents} latents (seeds {first.seeds[0]} to {first.seeds[1]}) under both "
        "labels. Red: brighter under the second label; blue: darker; white: no change."
    )
    if found.real_difference is not None:
        low, high = found.real_difference.images
        caption += (
            f" On the right the mean of {high:,} training images of {first.contrast.side_names[1]} less that of "
            f"{low:,} of {first.contrast.side_names[0]}, in the same colours."
        )
    return Sheet(picture, f"Maps of the difference between {' and '.join(first.contrast.names)}", caption)


def _difference_sheet(difference: ClassDifference) -> Sheet:
    """Single latents under both labels."""
    pairs = difference.examples[:_EXAMPLES]
    change = pairs[:, 1] - pairs[:, 0]
    scale = Scale.for_values([change.numpy()], f"difference, {_GREY}")
    notes = [f"seed {difference.seeds[0] + number}" for number in range(len(pairs))]
    sizes = [f"mean {50 * value:.1f} %" for value in change.abs().flatten(1).mean(dim=1).tolist()]
    rows = [Tile.of_images(pairs[:, 0], notes), Tile.of_images(pairs[:, 1]), scale.tiles(change, sizes)]
    names = [*difference.contrast.names, "difference"]
    return Sheet(
        make_sheet(rows, row_names=names, scale=scale),
        f"Images of {len(pairs)} latents under {' and under '.join(difference.contrast.names)}, and their difference",
        "Each column is one latent: above under the first label, below it under the second, then the second less the "
        "first. Synthetic images.",
    )


def _walk_sheet(walk: ClassWalk) -> Sheet:
    """Ways from label to label."""
    rows: list[list[Tile | None]] = []
    for number in range(len(walk.images)):
        notes = [""] * len(walk.weights)
        if walk.leaning is not None:
            notes = [f"{_percent(share)}" for share in walk.leaning[number]]
        rows.append([*Tile.of_images(walk.images[number], notes)])
    columns = [f"{100 * weight:.3g} %" for weight in walk.weights.tolist()]
    caption = (
        f"Each row is one latent, on the way from {walk.contrast.names[0]} (left) to {walk.contrast.names[1]} (right); "
        "above each column the share of the second label. Synthetic images."
    )
    if walk.leaning is not None and walk.borders is not None and walk.border_images is not None:
        for row, image, at in zip(rows, walk.border_images, walk.borders, strict=True):
            note = "no change\nof mind" if np.isnan(at) else f"at {_percent(at, 1)}"
            row.append(Tile.of_images(image[None], [note])[0])
        columns.append("undecided")
        caption += (
            f" Below each image: how far the classifier leans to {walk.contrast.names[1]}. On the right the borderline "
            "case: the image at which the classifier is undecided, and the share of the second label there. It takes "
            f"the two ends for {walk.contrast.names[0]} and for {walk.contrast.names[1]} in {walk.crossing} of "
            f"{walk.tried} latents; these are shown first."
        )
    names = [f"seed\n{seed}" for seed in walk.seeds]
    picture = make_sheet(rows, row_names=names, column_names=columns)
    return Sheet(picture, f"Walks from {' to '.join(walk.contrast.names)}", caption)


def _inversion_sheet(real: RealImages) -> Sheet:
    """Real images, found again, and under the other label."""
    found = real.inversion
    error = found.images - real.images
    maps = [error] if real.others is None else [error, real.others - found.images]
    scale = Scale.for_values([each.numpy() for each in maps], f"difference, {_GREY}")
    quality = [
        f"{psnr:.1f} dB" + ("" if np.isnan(alike) else f", SSIM {alike:.2f}")
        for psnr, alike in zip(found.psnr, found.ssim, strict=True)
    ]
    columns = ["real image", "found again", "error"]
    tiles = [
        Tile.of_images(real.images, [] if real.names is None else [own for own, _ in real.names]),
        Tile.of_images(found.images, quality),
        scale.tiles(error, [f"mean {50 * value:.1f} %" for value in found.errors]),
    ]
    caption = (
        f"Real images of the part “{real.part}”, one a row, of as many patients; the image of the latent that was "
        "found; and that less the real one."
    )
    if real.others is not None and real.names is not None and real.changes is not None and real.readable is not None:
        columns += ["under the other\nlabel", "what the label\nchanged"]
        notes = [
            f"mean {50 * value:.1f} %" + ("" if readable else "\nNOT TO BE READ")
            for value, readable in zip(real.changes, real.readable, strict=True)
        ]
        tiles += [
            Tile.of_images(real.others, [other for _, other in real.names]),
            scale.tiles(real.others - found.images, notes),
        ]
        caption += (
            " Then the same latent under the other label, and what that changed in the image that was found, in the "
            "same colours. Where the error is more than half of the change, the map is marked as not to be read."
        )
    names = [f"image {number + 1}" for number in range(len(real.images))]
    rows = [list(row) for row in zip(*tiles, strict=True)]
    picture = make_sheet(rows, row_names=names, column_names=columns, scale=scale)
    return Sheet(picture, "Real images, their reconstructions and both under the other label", caption)


def _rare_sheet(found: list[Cases]) -> Sheet:
    """Typical, rare and outlying samples of each label."""
    rows, names = [], []
    for cases in found:
        kinds = {"typical": cases.typical(SHOWN), "rare": cases.rare(SHOWN), "unlike all": cases.outside(SHOWN)}
        for kind, chosen in kinds.items():
            if not len(chosen):
                continue
            numbers = cases.rarity.distances if kind == "unlike all" else cases.rarity.scores
            notes = [f"{numbers[row]:.1f}" for row in chosen]
            rows.append(Tile.of_images(cases.images[torch.from_numpy(chosen.copy())], notes))
            names.append(f"{cases.name}\n{kind}".strip())
    caption = (
        "Typical: the least rare samples. Rare: the rarest of those within what the training images look like; below "
        "each its rarity score. Unlike all: outside of that, the farthest first; below each the distance to the "
        "nearest training image. Synthetic images."
    )
    return Sheet(make_sheet(rows, row_names=names), "Typical, rare and outlying samples", caption)


def _borderline_sheet(found: list[Cases], whole: Exploration) -> Sheet:
    """Samples that the classifier is the least sure of."""
    rows = []
    for cases in found:
        assert cases.leaning is not None
        chosen = cases.borderline(SHOWN)
        notes = [f"{_percent(cases.leaning[row])}" for row in chosen]
        rows.append(Tile.of_images(cases.images[torch.from_numpy(chosen.copy())], notes))
    target = "" if whole.contrast is None else whole.contrast.names[1]
    caption = (
        f"Of {len(found[0].seeds)} samples of each label those of which the classifier is the least sure; below each "
        f"how far it leans to {target}. Synthetic images."
    )
    return Sheet(make_sheet(rows, row_names=[cases.name for cases in found]), "Borderline samples", caption)


def _neighbour_sheet(found: Exploration) -> Sheet:
    """Samples with the training images nearest to them."""
    near, images = found.neighbours, found.neighbour_images
    assert near is not None and images is not None  # noqa: PT018 - for the type checker
    rows = [
        Tile.of_images(
            near.images, [f"{name}\nseed {seed}".strip() for name, seed in zip(near.names, near.seeds, strict=True)]
        ),
        Tile.of_images(images[0]),
        Tile.of_images(images[1]),
    ]
    names = ["synthetic", "nearest\nby pixels", "nearest\nby features"]
    return Sheet(
        make_sheet(rows, row_names=names),
        "Samples above the training images nearest to them",
        "Above a sample, below it the training image with the highest correlation of the pixels, and that with the "
        "smallest distance of the features. The lower two rows are images of patients.",
    )


def _interpolation_sheet(found: Exploration) -> Sheet:
    """Ways between latents."""
    part = found.interpolation
    assert part is not None
    rows = []
    for images, seeds in zip(part.images, part.seeds, strict=True):
        notes = [f"seed {seeds[0]}", *[""] * (len(images) - 2), f"seed {seeds[1]}"]
        rows.append(Tile.of_images(images, notes))
    way = "a great circle, as the latents are normal" if part.spherical else "a straight line"
    return Sheet(
        make_sheet(rows, row_names=part.names),
        "Strips of images between latents",
        f"Each strip goes from one latent to another along {way}; the label stays the same. Synthetic images.",
    )


def _truncation_sheet(found: Exploration) -> Sheet:
    """More and more typical samples."""
    part = found.truncation
    assert part is not None
    rows = [Tile.of_images(images) for images in part.images]
    rows[-1] = Tile.of_images(
        part.images[-1], [f"{name}\nseed {seed}".strip() for name, seed in zip(part.names, part.seeds, strict=True)]
    )
    names = [
        f"truncation {level:g}\nvariety {_percent(share)}"
        for level, share in zip(part.levels, part.variety, strict=True)
    ]
    return Sheet(
        make_sheet(rows, row_names=names),
        "The same latents with more and less truncation",
        f"Each column is one latent. Variety: standard deviation over {part.latents} latents of each label, mean over "
        "pixels, as a share of that without truncation. Synthetic images.",
    )


# ----------------------------------------------------------------------------------------- page


def make_page(found: Exploration, sheets: dict[str, Sheet]) -> Page:
    """Return the page of an exploration.

    Args:
        found: The exploration.
        sheets: Its pictures, from `make_sheets`.
    """
    facts, data = found.facts, found.gan.data
    name = facts["training_data"].get("name") or "unknown data"
    pairs = [
        ("class differences", _difference_section),
        ("walk", _walk_section),
        ("real", _real_section),
        ("cases", _case_section),
        ("neighbours", _neighbour_section),
        ("interpolation", _interpolation_section),
        ("truncation", _truncation_section),
    ]
    sections = [section for _, make in pairs if (section := make(found, sheets)) is not None]
    if found.left_out:
        points = [f"{part}: {reason}." for part, reason in found.left_out.items()]
        sections.append(Section("Left out", [Note("These parts are not on this page.", points=points)]))
    sections.append(Section("How this was made", [Text(text) for text in _methods(found)], folded=True))
    return Page(
        "What the generator knows",
        f"{facts['architecture']}, trained on {name}; images of {'×'.join(map(str, data.size))} pixels. Random numbers "
        f"from seed {facts['seed']}: the same command makes the same page.",
        _opening(found),
        sections,
        {
            "Model": f"{facts['weights']} (weights {facts['weights_sha256'][:12]})",
            "Features": "none"
            if facts["features"] is None
            else f"{facts['features']['name']}: {facts['features']['what']}",
            "Held-out images": "none"
            if facts["held_out"] is None
            else f"{facts['held_out']['images']:,} of the part “{facts['held_out']['part']}”",
            "Versions": ", ".join(f"{key} {value}" for key, value in facts["versions"].items()),
            "Figures": "explore.json beside this page; the maps are in arrays.npz",
        },
    )


def _opening(found: Exploration) -> list[Block]:
    """What was found, and what limits it."""
    points = []
    if found.differences:
        first = found.differences[0]
        points.append(
            f"The same latents differ by {50 * first.size:.1f} % {_GREY} between {first.contrast.names[0]} and "
            f"{first.contrast.names[1]}" + _taken(first) + "."
        )
    if found.real_difference is not None and not np.isnan(found.real_difference.correlation):
        points.append(
            "What it paints on average correlates with the difference of the mean training images by "
            f"{found.real_difference.correlation:.2f}."
        )
    if found.real is not None:
        points.append(_inversion_verdict(found.real))
    if found.cases:
        shares = [
            f"{_percent(cases.rarity.outside)} of {cases.name or 'the samples'}"
            + ("" if cases.held_out is None else f" (held-out images: {_percent(cases.held_out.outside)})")
            for cases in found.cases
        ]
        points.append(f"Unlike all training images of their label are {', '.join(shares)}.")
    blocks: list[Block] = [Note("In short", "verdict", points)] if points else []
    blocks.append(
        Note(
            "This page shows what a generator paints. It is no finding about a patient, no diagnosis, and no proof of "
            "what a disease looks like: a generator learns whatever differs between the training images of two labels, "
            "age, position, device and hospital included."
        )
    )
    if found.real is not None or found.neighbour_images is not None:
        blocks.append(
            Note(
                "This page holds images of patients. It falls under the same rules as the data. With --synthetic-only "
                "it has none.",
                "danger",
            )
        )
    return blocks


def _taken(difference: ClassDifference) -> str:
    """Say for what a classifier takes the images of both labels."""
    if difference.leaning is None:
        return ""
    low, high = difference.leaning
    first, second = difference.contrast.names
    return (
        f"; a classifier takes {_percent(low)} of those under {first} and {_percent(high)} of those under {second} for "
        f"{second}"
    )


def _inversion_verdict(real: RealImages) -> str:
    """Say how near the reconstructions came, and whether what the label changed can be read."""
    count = len(real.images)
    text = (
        f"Real images were found again with a median PSNR of {np.median(real.inversion.psnr):.1f} dB (nearest of 128 "
        f"random samples: {np.median(real.chance):.1f} dB; the model's own samples: {np.median(real.own_psnr):.1f} dB)."
    )
    if real.readable is None or real.changes is None:
        return text
    readable = int(real.readable.sum())
    if readable == count:
        return f"{text} What the other label changes is at least twice the error for all {count}."
    which = f"all {count}" if not readable else f"{count - readable} of {count}"
    return (
        f"{text} For {which} the error is more than half of what the other label changes: those maps are not to be "
        "read."
    )


def _difference_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    if not found.differences:
        return None
    first = found.differences[0]
    blocks: list[Block] = [
        Text(
            f"Nothing but the label changes here: the latent stays, and {first.contrast.names[0]} becomes "
            f"{first.contrast.names[1]}. The difference is what the generator paints for {first.contrast.names[1]}."
        ),
        sheets["class-difference-map"].figure(),
        sheets["class-difference"].figure(),
    ]
    columns = ["Label", "compared with", "mean |difference|", "mean |mean map|", "taken for the label"]
    rows = []
    for difference in found.differences:
        low, high = difference.leaning or (float("nan"), float("nan"))
        rows.append(
            [
                difference.contrast.names[1],
                difference.contrast.names[0],
                f"{50 * difference.size:.2f} %",
                f"{50 * float(difference.mean.abs().mean()):.2f} %",
                "" if np.isnan(low) else f"{_percent(low)} → {_percent(high)}",
            ]
        )
    caption = (
        f"Over {first.latents} latents and all pixels, in percent {_GREY}. Where the mean map is much smaller than the "
        "mean difference, the label does something else to each latent."
    )
    blocks.append(Table(columns, rows, caption))
    quality = found.facts["classifier_on_held_out"]
    if quality is not None:
        blocks.append(Text(_quality_text(found, quality)))
    return Section(f"What the model paints for {first.contrast.names[1]}", blocks)


def _quality_text(found: Exploration, quality: dict[str, object]) -> str:
    """Say how good the classifier is, which decides what its words are worth."""
    assert found.contrast is not None
    images, shares = quality["images"], quality["share_taken_for_target"]
    assert isinstance(images, dict)
    assert isinstance(shares, dict)
    first, second = found.contrast.names
    return (
        f"The classifier, of real images of the part “{quality['part']}”: AUROC {quality['auroc']:.3f}; it takes "
        f"{_percent(shares[first])} of {images[first]:,} of {first} and {_percent(shares[second])} of "
        f"{images[second]:,} of {second} for {second}. It was trained on the training patients alone."
    )


def _walk_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    if found.walk is None:
        return None
    first, second = found.walk.contrast.names
    blocks: list[Block] = [
        Text(
            f"Between {first} and {second} the generator was never trained: it saw one or the other. What it makes of "
            "mixtures shows whether it goes from one to the other evenly, or jumps."
        ),
        sheets["class-walk"].figure(),
    ]
    return Section(f"From {first} to {second}", blocks)


def _real_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    real = found.real
    if real is None:
        return None
    blocks: list[Block] = [
        Note(
            "The right-hand maps show what the generator would paint into the image that it found, not what this "
            "patient would look like otherwise. They are no counterfactual of a patient, and no explanation of a "
            "diagnosis. What the generator could not reconstruct is not in them.",
            "warning",
        )
    ]
    if real.readable is not None and not real.readable.all():
        blocks.append(Note(_inversion_verdict(real), "danger"))
    else:
        blocks.append(Text(_inversion_verdict(real)))
    if real.part == "given":
        blocks.append(Text("It is not known whether the model was trained on these images."))
    blocks.append(sheets["inversion"].figure())
    columns = ["Image", "Label", "PSNR", "SSIM", "error", "change by the label", "nearest random sample"]
    rows = []
    for row in range(len(real.files)):
        alike, change = real.inversion.ssim[row], real.changes
        rows.append(
            [
                str(row + 1),
                "" if real.names is None else real.names[row][0],
                f"{real.inversion.psnr[row]:.1f} dB",
                "" if np.isnan(alike) else f"{alike:.3f}",
                f"{50 * real.inversion.errors[row]:.1f} %",
                "" if change is None else f"{50 * change[row]:.1f} %",
                f"{real.chance[row]:.1f} dB",
            ]
        )
    own = ", ".join(f"{value:.1f}" for value in real.own_psnr)
    caption = (
        f"Errors and changes: mean absolute difference, in percent {_GREY}. The same search on {len(real.own_psnr)} "
        f"samples of the model itself, for which there are latents to be found: {own} dB. What real images lack beside "
        "them is what the generator cannot make."
    )
    blocks.append(Table(columns, rows, caption))
    return Section("Real images, found in the latent space", blocks)


def _case_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    if not found.cases:
        return None
    blocks: list[Block] = [sheets["rare-cases"].figure()]
    if "borderline-cases" in sheets:
        blocks.append(sheets["borderline-cases"].figure())
    rows = [
        [
            cases.name or "all",
            f"{len(cases.seeds):,}",
            f"{cases.training:,}",
            f"{_percent(cases.rarity.outside, 1)}",
            ""
            if cases.held_out is None
            else f"{_percent(cases.held_out.outside, 1)} of {len(cases.held_out.scores):,}",
            _median(cases.rarity.scores),
            "" if cases.held_out is None else _median(cases.held_out.scores),
        ]
        for cases in found.cases
    ]
    columns = ["Label", "samples", "training", "unlike all", "held-out", "median rarity", "held-out"]
    caption = (
        "Unlike all: share that lies in no ball around a training image of the label. A generator that does as well as "
        "reality has the figures of held-out images; a lower share and a lower rarity mean samples that keep to what "
        "is common."
    )
    blocks.append(Table(columns, rows, caption))
    return Section("Rare and borderline cases", blocks)


def _median(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    known = values[np.isfinite(values)]
    return f"{np.median(known):.2f}" if len(known) else ""


def _neighbour_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    near = found.neighbours
    if near is None:
        return None
    blocks: list[Block] = []
    if "nearest-training" in sheets:
        blocks.append(sheets["nearest-training"].figure())
    rows = []
    for title, values, others in (
        ("correlation of pixels", near.correlations, near.held_out_correlations),
        ("distance of features", near.distances, near.held_out_distances),
    ):
        for kind, numbers in (("samples", values), ("held-out images", others)):
            if numbers is None:
                continue
            nearest = numbers.max() if title.startswith("correlation") else numbers.min()
            median = np.median(numbers)
            rows.append([title, kind, f"{len(numbers):,}", f"{median:.3f}", f"{nearest:.3f}"])
    caption = (
        f"To the nearest of {near.training:,} training images; pixels compared at {near.side} along the longest side. "
        "Samples that are nearer to training images than new patients are may be copies: look at the pairs."
    )
    blocks.append(Table(["Measure", "of", "images", "median", "nearest"], rows, caption))
    return Section("Nearest training images", blocks)


def _interpolation_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    part = found.interpolation
    assert part is not None
    worst = max(part.unevenness)
    meaning = (
        "A jump like that, from one image to another, is what memorised images look like: look at the strips."
        if worst > _UNEVEN
        else "That does not show that nothing is memorised: look at the strips."
    )
    text = f"The largest step of a strip is at most {worst:.1f} times the mean one. {meaning}"
    return Section("Between two latents", [Text(text), sheets["interpolation"].figure()])


def _truncation_section(found: Exploration, sheets: dict[str, Sheet]) -> Section | None:
    text = (
        "Truncation draws latents towards their mean: images become more typical, and less varied. Samples that train "
        "something else are best left untruncated."
    )
    return Section("Truncation", [Text(text), sheets["truncation"].figure()])


def _methods(found: Exploration) -> list[str]:
    """How each part was computed."""
    texts = []
    if found.differences:
        texts.append(
            "Class difference: the generator makes each latent under both labels, and the images are subtracted. Map: "
            "mean over the latents; spread: standard deviation. Colours end at a round percentage that all but 0.5 % "
            "of the pixels stay below; they are symmetric around 0."
        )
    if found.walk is not None:
        texts.append(
            "Walk between labels: classes are mixed by weight, findings and quantities by value. The border is found "
            "by bisection, in the first interval in which the classifier changes its mind."
        )
    if found.real is not None:
        texts.append(
            "Inversion: from the best 3 of 128 random latents 150 steps of Adam each, on the mean absolute difference "
            "of pixels and of the steps between neighbouring pixels, at up to five scales. The latents stay at the "
            "length, or within the bounds, that the generator was trained with. The least loss counts."
        )
    if found.cases:
        texts.append(
            "Rare: a ball around each training image of the label reaches to its third neighbour, in the features "
            "above, standardised. The rarity score of an image is the radius of the smallest ball that it lies in (Han "
            "et al., 2022, arXiv:2206.08549). Borderline: the classifier is the least sure."
        )
    if found.neighbours is not None:
        texts.append(
            "Nearest training images: Pearson's correlation of all pixels, and Euclidean distance of the standardised "
            "features."
        )
    if found.contrast is not None and found.contrast.spec.kind == "multilabel":
        texts.append(
            "Findings: real images of a label are those with the finding, or without it, whatever else they show."
        )
    if len(found.gan.data.size) == 3:
        texts.append(
            "Volumes: every picture is the middle slice along the first axis; every figure is of whole volumes."
        )
    texts.append(
        "Truncation: as in `medgan sample --truncation`. Interpolation: along a great circle between normal latents, "
        "else along a straight line."
    )
    return texts
