"""All checks, and two ways to run them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from medgan.core.gan import GAN
from medgan.errors import ConfigError, nearest
from medgan.testing import declaration, networks, training
from medgan.testing.probe import ComplianceError

__all__ = ["Check", "CheckResult", "check_architecture", "checks", "parametrize_with_checks", "run_checks"]

Check = Callable[[type[GAN]], None]
"""Takes an architecture and raises `ComplianceError` if it breaks one promise."""

F = TypeVar("F", bound=Callable[..., Any])


def checks() -> Iterator[Check]:
    """Yield all checks, cheap and basic ones first; ``check.__doc__`` says what each demands."""
    yield declaration.check_name
    yield declaration.check_summary
    yield declaration.check_api_version
    yield declaration.check_parts
    yield declaration.check_config
    yield declaration.check_help
    yield declaration.check_option_names
    yield declaration.check_presets
    yield declaration.check_config_json
    yield declaration.check_sizes
    yield declaration.check_other_data
    yield declaration.check_other_sizes
    yield declaration.check_declared_sizes
    yield declaration.check_import
    yield networks.check_shape
    yield networks.check_range
    yield networks.check_latents
    yield networks.check_latents_matter
    yield networks.check_labels_matter
    yield networks.check_mixed_classes
    yield networks.check_sources_matter
    yield networks.check_discriminator_output
    yield networks.check_judges_without_labels
    yield networks.check_label_leak
    yield networks.check_seed
    yield networks.check_global_randomness
    yield networks.check_copies
    yield training.check_training_moves_both
    yield training.check_trainable_after_step
    yield training.check_batch_untouched
    yield training.check_metrics
    yield training.check_losses_pure
    yield training.check_separate_updates
    yield training.check_every_kind_of_data
    yield training.check_unknown_labels
    yield training.check_stabilisers_act
    yield training.check_frozen_stages
    yield training.check_accumulation
    yield training.check_discriminator_steps
    yield training.check_mixed_precision
    yield training.check_mixed_penalties
    yield training.check_tiny_speed
    yield training.check_sample_repeats
    yield training.check_sample_number
    yield training.check_sample_mode
    yield training.check_truncation
    yield training.check_truncation_labels
    yield training.check_truncation_number
    yield training.check_save_load
    yield training.check_resume
    yield training.check_stabilisers_resume
    yield training.check_adaptive_resume
    yield training.check_rewind
    yield training.check_way_back


class CheckResult(NamedTuple):
    """What one check found.

    Attributes:
        name: Name of the check.
        demand: What it demands, in a sentence.
        error: What the architecture breaks, or what it raised; None if the check passes.
        seconds: How long it took.
    """

    name: str
    demand: str
    error: Exception | None
    seconds: float

    def __str__(self) -> str:
        """Return what was found, if the check failed."""
        kind = "" if isinstance(self.error, ComplianceError) else f"{type(self.error).__name__}: "
        return "" if self.error is None else f"{kind}{self.error}"


def run_checks(architecture: type[GAN]) -> Iterator[CheckResult]:
    """Run all checks on an architecture, and yield what each finds.

    Args:
        architecture: The class.
    """
    for check in checks():
        found = None
        start = time.perf_counter()
        try:
            check(architecture)
        # A broken architecture may raise anything; the rest of the checks still tells something.
        except Exception as error:
            found = error
        yield CheckResult(_name(check), (check.__doc__ or "").strip(), found, time.perf_counter() - start)


def check_architecture(architecture: type[GAN], *, expected_failures: Mapping[str, str] | None = None) -> None:
    """Run all checks on an architecture.

    Args:
        architecture: The class.
        expected_failures: Names of checks that are known to fail, each with the reason. One that
            passes all the same is an error, so that the list stays true.

    Raises:
        ComplianceError: If a check fails that should pass, or passes that should fail; the message
            names all of them.
        ConfigError: If `expected_failures` names a check that does not exist.

    Example:
        In the tests of a plugin::

            def test_contract():
                check_architecture(MyGAN)
    """
    expected = _check_names(expected_failures)
    problems: list[str] = []
    causes: list[Exception] = []
    for result in run_checks(architecture):
        if result.error is not None and result.name not in expected:
            problems.append(f"{result.name}: {result}")
            causes.append(result.error)
        elif result.error is None and result.name in expected:
            problems.append(
                f"{result.name}: passes, but was expected to fail ({expected[result.name]}). Remove it from the list."
            )
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        who = getattr(architecture, "name", architecture.__name__)
        raise ComplianceError(f"{who}: {len(problems)} of {len(list(checks()))} checks failed:\n{listed}") from (
            causes[0] if causes else None
        )


def parametrize_with_checks(
    architectures: Sequence[type[GAN]], *, expected_failures: Mapping[str, str] | None = None
) -> Callable[[F], F]:
    """Turn a test function into one pytest test for each architecture and check.

    Args:
        architectures: The classes.
        expected_failures: Names of checks that are known to fail, each with the reason; they become
            strict ``xfail`` marks.

    Returns:
        A decorator for a function with the arguments ``architecture`` and ``check``.

    Raises:
        ConfigError: If `expected_failures` names a check that does not exist.

    Example:
        ::

            @parametrize_with_checks([MyGAN])
            def test_mygan(architecture, check):
                check(architecture)
    """
    # Only the caller's tests need pytest, hence not an import of this package.
    pytest = importlib.import_module("pytest")
    expected = _check_names(expected_failures)
    cases = []
    for architecture in architectures:
        for check in checks():
            name = _name(check)
            marks = [pytest.mark.xfail(reason=expected[name], strict=True)] if name in expected else []
            identity = f"{getattr(architecture, 'name', architecture.__name__)}-{name}"
            cases.append(pytest.param(architecture, check, id=identity, marks=marks))
    decorator: Callable[[F], F] = pytest.mark.parametrize(("architecture", "check"), cases)
    return decorator


def _name(check: Check) -> str:
    """Return the name of a check."""
    return str(getattr(check, "__name__", check))


def _check_names(expected_failures: Mapping[str, str] | None) -> dict[str, str]:
    """Return the expected failures if each names a check."""
    known = [_name(check) for check in checks()]
    for name in expected_failures or {}:
        if name not in known:
            raise ConfigError(f"There is no check {name!r} to expect a failure of. {nearest(name, known)}")
    return dict(expected_failures or {})
