from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Optional

import pytest

from medgan.core import Config, GANConfig, Idle, option
from medgan.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options(Config):
    count: int = option(3, "A count.", ge=1, le=10)
    rate: float = option(0.5, "A rate.", ge=0)
    deep: bool = option(False, "Whether it is deep.")
    kind: Literal["a", "b"] = option("a", "A kind.")
    order: Literal[1, 2] = option(1, "An order.")
    text: str = option("x", "A text.")
    limit: float | None = option(None, "A limit.", ge=0)
    old: Optional[int] = option(None, "An old way to say it.")  # noqa: UP045
    mode: str = option("fast", "A mode.", choices=("fast", "good"))
    maybe: Literal["p", "q"] | None = option(None, "Perhaps one.")


def test_options_describe_every_field() -> None:
    described = {item.name: item for item in Options.options()}
    assert list(described) == [field.name for field in dataclasses.fields(Options)]
    assert (described["count"].type, described["count"].ge, described["count"].le) == (int, 1, 10)
    assert (described["kind"].type, described["kind"].choices) == (str, ("a", "b"))
    assert (described["order"].type, described["order"].choices) == (int, (1, 2))
    assert (described["limit"].type, described["limit"].optional) == (float, True)
    assert (described["old"].type, described["old"].optional) == (int, True)
    assert (described["maybe"].type, described["maybe"].optional, described["maybe"].choices) == (str, True, ("p", "q"))
    assert described["mode"].choices == ("fast", "good")
    assert not described["rate"].optional
    assert described["rate"].help == "A rate."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "'count' got 0, expected at least 1"),
        ({"count": 11}, "'count' got 11, expected at most 10"),
        ({"count": 2.0}, r"'count' got 2.0 \(float\), expected int"),
        ({"count": True}, r"'count' got True \(bool\), expected int"),
        ({"count": None}, "'count' got None"),
        ({"count": "3"}, r"'count' got '3' \(str\), expected int"),
        ({"rate": True}, "'rate' got True"),
        ({"rate": -0.1}, "at least 0"),
        ({"rate": float("nan")}, "finite"),
        ({"rate": float("inf")}, "finite"),
        ({"deep": 1}, r"'deep' got 1 \(int\), expected bool"),
        ({"kind": "c"}, "'kind' got 'c', expected one of: a, b"),
        ({"order": 3}, "expected one of: 1, 2"),
        ({"text": 3}, "expected str"),
        ({"mode": "slow"}, "expected one of: fast, good"),
        ({"limit": -1}, "at least 0"),
        ({"maybe": "r"}, "expected one of: p, q"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**values)
    with pytest.raises(ConfigError, match=message):
        Options().replace(**values)
    with pytest.raises(ConfigError, match=message):
        Options.from_dict(values)


def test_whole_numbers_fit_where_a_float_is_wanted() -> None:
    config = Options(rate=1, limit=2)
    assert (config.rate, type(config.rate), config.limit, type(config.limit)) == (1.0, float, 2.0, float)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'cuont' is unknown to Options. Did you mean 'count'\?"):
        Options.from_dict({"cuont": 3})
    with pytest.raises(ConfigError, match=r"'batchsize'.*Did you mean 'batch_size'"):
        GANConfig().replace(batchsize=3)


def test_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().count = 4  # type: ignore[misc]


def test_replace_leaves_the_original() -> None:
    config = Options()
    assert config.replace(count=4).count == 4
    assert config.count == 3


def test_round_trip_through_json() -> None:
    config = Options(count=7, rate=0.1 + 0.2, limit=1e-300, kind="b", maybe="q")
    assert Options.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Options.from_dict({}) == Options()


def test_subclass_can_change_a_default_and_keeps_the_order() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Sub(Options):
        rate: float = option(0.9, "Another rate.", ge=0)
        more: int = option(1, "More.")

    assert Sub().rate == 0.9
    assert [item.name for item in Sub.options()][:2] == ["count", "rate"]
    assert Sub.options()[-1].name == "more"


@dataclass(frozen=True, kw_only=True)
class PlainField(Config):
    count: int = 3


@dataclass(frozen=True, kw_only=True)
class ListField(Config):
    sizes: list[int] = option(None, "Sizes.")  # type: ignore[assignment]  # noqa: RUF009


@dataclass(frozen=True, kw_only=True)
class TwoTypes(Config):
    value: int | str = option(1, "A value.")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PlainField, "Declare PlainField.count as"),
        (ListField, "ListField.sizes is"),
        (TwoTypes, "TwoTypes.value is"),
    ],
)
def test_fields_that_are_no_options_are_refused(config: type[Config], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.options()


def test_invalid_default_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bad(Config):
        count: int = option(0, "A count.", ge=1)

    with pytest.raises(ConfigError, match="'count' got 0"):
        Bad()


@dataclass(frozen=True, kw_only=True)
class Dependent(Options):
    more: float = option(1.0, "More.", ge=0)
    wide: bool = option(True, "Whether it is wide.")

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if self.mode == "fast":
            yield Idle(("more", "wide"), "it is fast. Type --mode good.", {"wide": False})
        if self.more == 3:
            yield Idle(("limit",), "there are three.")


def test_options_that_act_on_nothing_are_refused_in_one_message() -> None:
    message = r"^--more 2.0, --wide act on nothing: it is fast. Type --mode good. Or type --more 1.0 --no-wide.$"
    with pytest.raises(ConfigError, match=message):
        Dependent(mode="good").replace(mode="fast", more=2, wide=True)
    with pytest.raises(ConfigError, match=r"^--more 2.0 acts on nothing: it is fast"):
        Dependent(more=2)
    with pytest.raises(ConfigError, match="'more' got -2"):
        Dependent().replace(more=-2)


def test_a_default_that_acts_on_nothing_passes_until_it_is_given() -> None:
    assert Dependent().wide
    assert not Dependent().replace().wide
    assert not Dependent().replace(wide=False).wide
    with pytest.raises(ConfigError, match="--wide acts on nothing"):
        Dependent().replace(wide=True)


def test_what_is_not_given_is_set_back_row_by_row() -> None:
    preset = Dependent(mode="good", more=3, wide=True, order=2)
    assert preset.replace(mode="fast") == Dependent(mode="fast", more=1, wide=False, order=2)
    # The second row does not hold any more once the first has been looked at.
    assert preset.replace(mode="fast", limit=4.0).limit == 4
    with pytest.raises(ConfigError, match=r"--limit 4.0 acts on nothing: there are three. Or type --limit none"):
        preset.replace(limit=4.0)
    assert preset == Dependent(mode="good", more=3, wide=True, order=2)  # the original is left alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment_probability": 0.4}, "--augment-probability 0.4 acts on nothing: there is no augmentation"),
        ({"ema_halflife": 0, "ema_rampup": 0.2}, "--ema-rampup 0.2 acts on nothing: no weights are averaged"),
    ],
)
def test_options_of_every_gan_that_act_on_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GANConfig(**options)


def test_every_gan_has_these_options() -> None:
    names = {item.name for item in GANConfig.options()}
    assert names >= {
        *("seed", "batch_size", "latent_dim", "generator_lr", "discriminator_lr", "beta1", "beta2", "clip_norm"),
        *("discriminator_steps", "ema_halflife", "ema_rampup", "augment", "class_sampling"),
    }
