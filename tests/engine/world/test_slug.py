"""Model names with suffixes follow one grammar; unknown parts are rejected by name."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from assay.engine.errors import CallerError, InvalidField, UnknownModel, UnknownVariant
from assay.engine.world.request import (
    CATALOG_VARIANTS,
    MAX_SLUG,
    Slug,
    parse_slug,
    provider_matches,
)

MODELS = frozenset({"lab/one", "lab/one:free", "~lab/latest", "Lab/Two.v1_x-y", "1/2"})
VARIANTS = frozenset({"exacto", "floor", "nitro"})


@pytest.mark.parametrize(
    ("text", "model", "variants"),
    [
        pytest.param("lab/one", "lab/one", (), id="a bare model"),
        pytest.param(
            "lab/one:exacto",
            "lab/one",
            ("exacto",),
            id="a routing variant is not part of the model",
        ),
        pytest.param(
            "lab/one:free", "lab/one:free", (), id="a catalog variant is part of the model"
        ),
        pytest.param("lab/one:free:nitro", "lab/one:free", ("nitro",), id="both kinds"),
        pytest.param(
            "lab/one:nitro:free", "lab/one:free", ("nitro",), id="both kinds the other way round"
        ),
        pytest.param(
            "lab/one:nitro:exacto",
            "lab/one",
            ("nitro", "exacto"),
            id="routing variants keep their order",
        ),
        pytest.param(
            "lab/one:exacto:exacto",
            "lab/one",
            ("exacto", "exacto"),
            id="a duplicate variant is kept",
        ),
        pytest.param("~lab/latest", "~lab/latest", (), id="an alias"),
        pytest.param("Lab/Two.v1_x-y", "Lab/Two.v1_x-y", (), id="every kind of character"),
        pytest.param("1/2", "1/2", (), id="digits"),
    ],
)
def test_slugs_are_parsed_into_model_and_variants(
    text: str, model: str, variants: tuple[str, ...]
) -> None:
    assert parse_slug(text, models=MODELS, variants=VARIANTS) == Slug(model, variants)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("one", id="no author"),
        pytest.param("lab/", id="no slug"),
        pytest.param("/one", id="an empty author"),
        pytest.param("lab/one/more", id="three parts"),
        pytest.param("lab/one:", id="an empty suffix"),
        pytest.param("lab/one::exacto", id="an empty suffix between"),
        pytest.param(":exacto", id="only a suffix"),
        pytest.param(" lab/one", id="a space before"),
        pytest.param("lab/one\n", id="a line break after"),
        pytest.param("lab/one\x00", id="a null byte"),
        pytest.param("lab/.one", id="a dot first"),
        pytest.param("../one", id="a path"),
        pytest.param("l\u0430b/one", id="a Cyrillic letter"),
        pytest.param("lab\uff0fone", id="a full-width slash"),
        pytest.param("lab/one\u200b", id="a zero-width space"),
        pytest.param("lab/\u202eeno", id="right to left"),
        pytest.param("lab/\u0661", id="an Arabic digit"),
        pytest.param("lab/\udc80", id="half a surrogate"),
        pytest.param("lab/one:free:batch", id="two catalog variants"),
        pytest.param("lab/one:free:free", id="a catalog variant twice"),
        pytest.param("lab/" + "o" * MAX_SLUG, id="one character too long"),
        pytest.param("lab/" + "o" * 1_000_000, id="a megabyte"),
        pytest.param("lab/one" + ":exacto" * 200_000, id="a megabyte of suffixes"),
    ],
)
def test_an_invalid_slug_is_rejected_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_slug(text, models=MODELS, variants=VARIANTS)
    assert caught.value.field == "model"
    assert caught.value.value == text
    message = str(caught.value)
    assert message.startswith("model: ")
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize(
    ("text", "model"),
    [
        pytest.param("lab/three", "lab/three", id="an unknown model"),
        pytest.param("lab/three:exacto", "lab/three", id="a valid suffix of an unknown model"),
        pytest.param(
            "lab/one:thinking", "lab/one:thinking", id="a missing catalog variant never falls back"
        ),
        pytest.param("LAB/ONE", "LAB/ONE", id="names are case-sensitive"),
    ],
)
def test_an_unknown_model_is_named_in_the_error(text: str, model: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        parse_slug(text, models=MODELS, variants=VARIANTS)
    assert caught.value.model == model
    assert str(caught.value) == f"model: '{model}' is not in the catalog"


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        pytest.param("lab/one:turbo", "turbo", id="an unknown variant"),
        pytest.param("lab/one:exacto:turbo", "turbo", id="after a known model"),
        pytest.param("lab/one:Exacto", "Exacto", id="in other letters"),
        pytest.param("lab/one:exacto ", "exacto ", id="with a space"),
        pytest.param("lab/one:ex\u0430cto", "ex\u0430cto", id="with a Cyrillic letter"),
        pytest.param("lab/three:turbo", "turbo", id="of an unknown model"),
    ],
)
def test_an_unknown_variant_is_named_with_the_known_ones(text: str, variant: str) -> None:
    with pytest.raises(UnknownVariant) as caught:
        parse_slug(text, models=MODELS, variants=VARIANTS)
    assert (caught.value.slug, caught.value.variant) == (text, variant)
    assert caught.value.known == ("exacto", "floor", "nitro")
    assert str(caught.value).isascii()
    assert str(caught.value).endswith("known are exacto, floor, nitro")


@given(st.sampled_from(sorted(MODELS)), st.lists(st.sampled_from(sorted(VARIANTS))))
def test_a_slug_is_parsed_as_written(model: str, variants: list[str]) -> None:
    slug = Slug(model, tuple(variants))
    if len(str(slug)) <= MAX_SLUG:
        assert parse_slug(str(slug), models=MODELS, variants=VARIANTS) == slug


@given(st.permutations(["free", "exacto", "nitro"]))
def test_a_catalog_variant_may_be_at_any_position(suffixes: list[str]) -> None:
    slug = parse_slug(":".join(("lab/one", *suffixes)), models=MODELS, variants=VARIANTS)
    assert slug == Slug("lab/one:free", tuple(s for s in suffixes if s != "free"))


PIECES = st.sampled_from(
    ["lab", "one", "/", ":", "free", "exacto", "batch", " ", "\u0430", ".", "~"]
)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_any_text_is_a_known_model_or_a_caller_error(text: str) -> None:
    slug, message = None, ""
    try:
        slug = parse_slug(text, models=MODELS, variants=VARIANTS)
    except CallerError as error:
        message = str(error)
    assert message.isprintable()
    if slug is not None:
        assert slug.model in MODELS
        assert set(slug.variants) <= VARIANTS
        assert sorted(str(slug).split(":")) == sorted(text.split(":"))


def test_there_are_four_catalog_variants() -> None:
    assert set(CATALOG_VARIANTS) == {"free", "batch", "thinking", "extended"}


@pytest.mark.parametrize(
    ("name", "tag", "tier", "expected"),
    [
        pytest.param("acme", "acme", "", True, id="the provider's only endpoint"),
        pytest.param("acme", "acme/fp8", "", True, id="a provider matches each of its endpoints"),
        pytest.param("acme", "acme/us-east5", "", True, id="in every region"),
        pytest.param("acme", "acme/priority", "priority", False, id="without service tiers"),
        pytest.param(
            "acme/priority", "acme/priority", "priority", True, id="a tag matches its tier"
        ),
        pytest.param("acme/fp8", "acme/fp8", "", True, id="a tag matches its endpoint"),
        pytest.param("acme/fp8", "acme/bf16", "", False, id="a tag matches no other tag"),
        pytest.param(
            "acme/fp8", "acme", "", False, id="a tag does not match the provider's bare tag"
        ),
        pytest.param("ACME", "acme", "", False, id="letters are case-sensitive"),
        pytest.param("ac", "acme", "", False, id="a prefix does not match"),
        pytest.param("", "acme", "", False, id="an empty name matches no endpoint"),
    ],
)
def test_a_provider_name_matches_its_endpoints(
    name: str, tag: str, tier: str, *, expected: bool
) -> None:
    assert provider_matches(name, "acme", tag, tier) is expected
