"""Pages and their tokens stay valid while items are added and removed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from assay.engine.errors import InvalidField
from assay.rpc.fields import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, page, token_of


def same(item: str) -> str:
    return item


@given(st.lists(st.text(min_size=1), unique=True).map(sorted), st.integers(1, 5))
def test_all_pages_together_have_every_item_once(items: list[str], size: int) -> None:
    seen: list[str] = []
    shown, token = page(items, same, size=size, token="")
    seen += shown
    while token:
        shown, token = page(items, same, size=size, token=token)
        assert 1 <= len(shown) <= size
        seen += shown

    assert seen == items


def test_a_token_stays_valid_after_its_item_was_removed() -> None:
    assert page(["a", "c"], same, size=1, token=token_of("b")) == (["c"], "")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        pytest.param(0, DEFAULT_PAGE_SIZE, id="no size takes the default"),
        pytest.param(7, 7, id="a size is kept"),
        pytest.param(10**9, MAX_PAGE_SIZE, id="a huge size is cut"),
    ],
)
def test_the_size_of_a_page_has_a_default_and_a_limit(size: int, shown: int) -> None:
    items = [f"{n:05}" for n in range(5000)]

    assert len(page(items, same, size=size, token="")[0]) == shown


@pytest.mark.parametrize(
    ("size", "token", "field"),
    [
        pytest.param(-1, "", "page_size", id="negative size"),
        pytest.param(1, "x", "page_token", id="not base64"),
        pytest.param(1, "ä", "page_token", id="not ASCII"),
        pytest.param(1, "____", "page_token", id="not UTF-8 inside"),
    ],
)
def test_an_invalid_page_is_rejected(size: int, token: str, field: str) -> None:
    with pytest.raises(InvalidField) as rejected:
        page(["a"], same, size=size, token=token)

    assert rejected.value.field == field
