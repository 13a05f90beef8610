"""``medgan evaluate``: is synthetic data worth anything?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from medgan.cli.options import (
    data_options,
    device_option,
    given,
    make_options,
    open_as,
    truncation_option,
    which_option,
)
from medgan.errors import ConfigError
from medgan.evaluation.options import ReportConfig, StudyConfig

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset
    from medgan.models import Which

__all__ = ["evaluate"]

_DATA = data_options()


def _protocol_options() -> list[click.Option]:
    """Return the options of both protocols, each once."""
    study = make_options(StudyConfig)
    names = {option.name for option in study}
    report = [option for option in make_options(ReportConfig) if option.name not in names]
    for option in report:
        option.help = f"{option.help} For --protocol report."
    return [*study, *report]


_PROTOCOLS = _protocol_options()
_OF_STUDY = ("resume", "jobs", "allow_leakage", "truncation", "test_set")


class _Parts(NamedTuple):
    """Real images by what they are for, and what is known of the generators' training."""

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    trained_on: Sequence[Mapping[str, str]]
    note: str | None
    run: Path | None  # whose images they are beside, or among


@click.command(params=[*_PROTOCOLS, *_DATA])
@click.option(
    "--real", help="Real images: what `medgan fit` takes as --data, or a run folder.  [default: those of the run]"
)
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Run folder, or a saved model's folder; of several, such as other seeds of one training, one for each seed.",
)
@which_option
@click.option("--synthetic", help="Synthetic images in the place of a model: a folder that `medgan sample` wrote.")
@click.option(
    "--test-set",
    help="Other real images to test on, such as another hospital's; read as those of the run, unless an option of the "
    "data says otherwise.",
)
@click.option(
    "--protocol",
    type=click.Choice(["study", "report"]),
    default="study",
    show_default=True,
    help="study: arms, seeds and intervals on held-out patients. report: trained on synthetic images alone, and "
    "tested on the images that the GAN has seen, beside held-out patients.",
)
@click.option(
    "--cv",
    "folds",
    type=click.IntRange(min=2),
    help="Cross-validation: this many folds, a generator trained anew for each with the options of the --model's run. "
    "Long; goes on with --resume.",
)
@click.option("--splits", type=click.Path(path_type=Path), help="A splits.json that divides the real images.")
@click.option("--transforms", help="As `medgan fit` was given it.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="evaluation", show_default=True, help="Folder of the results."
)
@click.option("--resume", is_flag=True, help="Go on in --out; runs that are there are not done again.")
@click.option("--jobs", type=click.IntRange(min=1), help="Trainings at a time.  [default: one a core, or one on a GPU]")
@click.option("--allow-leakage", is_flag=True, help="Accept a model that was trained on held-out patients.")
@truncation_option
@device_option
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    real: str | None,
    models: tuple[Path, ...],
    which: Which,
    synthetic: str | None,
    test_set: str | None,
    protocol: str,
    folds: int | None,
    splits: Path | None,
    transforms: str | None,
    out: Path,
    resume: bool,
    jobs: int | None,
    allow_leakage: bool,
    truncation: float,
    device: str,
    **_: Any,
) -> None:
    """Train classifiers on real and synthetic images, and test them on real patients that none has seen.

    Real images are divided as they were for the training of the model: its run folder says how. A saved model or a
    folder of synthetic images does not; then --real is divided anew, and must not have trained the generator.
    """
    from medgan.models import load_model
    from medgan.runs import find_run_of, is_run

    places, models = models, tuple(find_run_of(folder) for folder in models)
    options = given(context, _PROTOCOLS)
    wanted = StudyConfig if protocol == "study" else ReportConfig
    known = {item.name for item in wanted.options()}
    stray = next((name for name in options if name not in known), None)
    if stray is not None:
        raise click.UsageError(f"--{stray.replace('_', '-')} is not for --protocol {protocol}.")
    if synthetic is not None and models:
        raise click.UsageError("Both --model and --synthetic were given. Pass one of them.")
    if protocol == "report":
        params = (option for option in context.command.params if isinstance(option, click.Option))
        useless = given(context, [option for option in params if option.name in _OF_STUDY])
        if useless:
            raise click.UsageError(f"--{next(iter(useless)).replace('_', '-')} is not for --protocol report.")
    if protocol == "report" and len(models) != 1:
        raise click.UsageError("--protocol report needs one --model, whose training images it tests on.")
    data = given(context, _DATA)
    command = shlex.join(["medgan", *sys.argv[1:]])
    if folds is not None:
        if protocol != "study" or len(models) != 1 or not is_run(models[0]) or splits or test_set or data:
            raise click.UsageError(
                "--cv repeats the training of one run: give one --model that is a run folder and no --protocol report, "
                "no --splits, no --test-set and no options of the data."
            )
        _cross_validate(
            models[0],
            folds,
            command,
            out=out,
            config=StudyConfig.from_dict(options),
            data=real,
            transforms=transforms,
            resume=resume,
            jobs=jobs,
            device=device,
            truncation=truncation,
            which=which,
        )
        return
    generators = [load_model(folder, which=which) for folder in places]
    parts = _open(models, generators, real, test_set, data, splits, transforms)
    if test_set is not None:
        parts = _with_test_set(parts, test_set, data, transforms)
    if parts.note:
        click.echo(parts.note)
    if protocol == "report":
        config = ReportConfig.from_dict(options)
        _report(generators[0], parts, out, config, device, command)
    else:
        _study(
            parts,
            generators,
            # Generators repeat the preprocessing of their training images; it is not for doing twice.
            None if synthetic is None else open_as(synthetic, parts.train.spec, {}),
            StudyConfig.from_dict(options),
            command,
            out=out,
            resume=resume,
            jobs=jobs,
            allow_leakage=allow_leakage,
            truncation=truncation,
            device=device,
        )


def _study(
    parts: _Parts,
    generators: Sequence[GAN],
    synthetic: ImageDataset | None,
    config: Any,
    command: str,
    *,
    out: Path,
    **how: Any,
) -> None:
    """Do a study, and say where its report is."""
    from medgan.evaluation import DownstreamEvaluator
    from medgan.training import counting

    with _stoppable(command), counting("trainings") as progress:
        evaluator = DownstreamEvaluator(
            parts.train,
            parts.validation,
            parts.test,
            out=out,
            generators=generators,
            synthetic=synthetic,
            config=config,
            trained_on=parts.trained_on,
            facts={"command": command, **({"division": parts.note} if parts.note else {})},
            progress=progress,
            **how,
        )
        for sentence in (*evaluator.banners, *evaluator.notes):
            click.echo(sentence)
        study = evaluator.run()
    page, summary = evaluator.report(study)
    for sentence in summary["verdict"]["sentences"]:
        click.echo(sentence)
    click.echo(f"Report: {page}")


def _cross_validate(run: Path, folds: int, command: str, **how: Any) -> None:
    """Do a study in each fold, and say where the result is."""
    from medgan.cross_validation import cross_validate
    from medgan.training import TrainingStopped, counting

    with _stoppable(command), counting("trainings") as progress:
        try:
            page, _ = cross_validate(run, folds=folds, progress=progress, say=click.echo, **how)
        except TrainingStopped as stopped:
            raise KeyboardInterrupt from stopped
    click.echo(f"Report: {page}")


@contextmanager
def _stoppable(command: str) -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        typed = command if "--resume" in command.split() else f"{command} --resume"
        click.echo(f"\nStopped; what is finished is kept. Go on with: {typed}", err=True)
        sys.exit(130)


def _report(gan: GAN, parts: _Parts, out: Path, config: Any, device: str, command: str) -> None:
    """Repeat the report's experiment, and say where its page is."""
    from medgan.data import ImageDataset
    from medgan.evaluation import run_report_protocol
    from medgan.training import counting

    known = gan.provenance.get("fingerprint")
    if known is not None and known != parts.train.fingerprint:
        raise ConfigError(
            "--protocol report tests on the images that the model was trained on, and these are others: another data "
            "set, or the same divided in another way. Give the run folder as --model, without options of the data."
        )
    held_out = ImageDataset.join([parts.validation, parts.test])
    with counting("steps") as progress:
        page = run_report_protocol(
            gan,
            parts.train,
            out=out,
            held_out=held_out,
            config=config,
            device=device,
            command=command,
            progress=progress,
        )
    click.echo((out / "report.md").read_text(encoding="utf-8"))
    click.echo(f"Report: {page}")


def _open(
    models: Sequence[Path],
    generators: Sequence[GAN],
    real: str | None,
    test_set: str | None,
    data: dict[str, Any],
    splits: Path | None,
    transforms: str | None,
) -> _Parts:
    """Open the real images, divided as for the training of the first model where that is known."""
    from medgan.data.splits import Splits, make_splits, whole_unit
    from medgan.runs import is_run, read_parts, reopen

    trained_on = [read_parts(folder) for folder in models]
    run = next((folder for folder in models if is_run(folder)), None)
    if run is None and real is not None and is_run(Path(real).expanduser()):
        run, real = Path(real).expanduser(), None  # its images, divided as it did
        if splits is not None or (data and test_set is None):
            given_too = "splits" if splits is not None else next(iter(data)).replace("_", "-")
            raise click.UsageError(f"--{given_too} is not for a run: its images are read and divided as it did.")
    # Beside a run's own images, options of the data are those of the test set.
    if run is not None and splits is None and (not data or (test_set is not None and real is None)):
        opened = reopen(run, data=real, transforms=transforms)
        if "test" in opened.parts and "validation" in opened.parts:
            parts = opened.parts
            return _Parts(parts["train"], parts["validation"], parts["test"], trained_on, None, run)
        held_out = opened.parts.get("validation") or opened.parts.get("test")
        if held_out is None:
            raise ConfigError(
                f"{run} held nobody out, so that weights and thresholds can be chosen on nobody whom its generator has "
                "not seen. Train it anew with --validation 0.1 --test 0.2."
            )
        validation, test = held_out.split(0.6, by=whole_unit(held_out.index))  # the source may hold all of them out
        note = "The run held out one part only; four tenths of it choose weights and thresholds, the rest tests."
        if "validation" in opened.parts:
            note += " By these patients the run may have chosen its best model: they are not wholly new to it."
        return _Parts(opened.parts["train"], validation, test, trained_on, note, run)
    if real is None:
        raise click.UsageError("--real is needed: only a run folder knows its images.")
    dataset = open_as(real, generators[0].data if generators else None, data, transforms, run=run)
    chosen = Splits.read(splits) if splits else make_splits(dataset.index, dataset.labels, validation=0.15, test=0.25)
    parts = dataset.apply_splits(chosen)
    missing = [name for name in ("train", "validation", "test") if name not in parts]
    if missing:
        raise ConfigError(f"The division has no part {', '.join(missing)}, but {', '.join(parts)}. Give --splits.")
    return _Parts(parts["train"], parts["validation"], parts["test"], trained_on, None, run)


def _with_test_set(parts: _Parts, source: str, data: dict[str, Any], transforms: str | None) -> _Parts:
    """Test on other images; all patients that were held out then choose weights and thresholds."""
    from medgan.data import ImageDataset

    test = open_as(source, parts.train.spec, data, transforms, run=parts.run)
    validation = ImageDataset.join([parts.validation, parts.test])
    note = f"Tested on {source}; all held-out patients choose."
    return parts._replace(validation=validation, test=test, note=note)
