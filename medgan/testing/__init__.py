"""The compliance kit: does an architecture keep the promises that the rest of medgan relies on?

In a plugin's tests, with pytest (one test for each check)::

    from medgan.testing import parametrize_with_checks

    @parametrize_with_checks([MyGAN])
    def test_mygan(architecture, check):
        check(architecture)

or, without pytest::

    from medgan.testing import check_architecture

    check_architecture(MyGAN)

or, of one that is installed, ``medgan plugins check my-gan`` on the command line.

All checks run on the CPU with the preset ``tiny``; together they take about half a minute. The kit
itself does not need pytest.
"""

from medgan.testing.declaration import RESERVED
from medgan.testing.kit import Check, CheckResult, check_architecture, checks, parametrize_with_checks, run_checks
from medgan.testing.probe import ComplianceError, make_batch

__all__ = [
    "RESERVED",
    "Check",
    "CheckResult",
    "ComplianceError",
    "check_architecture",
    "checks",
    "make_batch",
    "parametrize_with_checks",
    "run_checks",
]
