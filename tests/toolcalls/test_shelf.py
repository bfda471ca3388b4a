"""What a shelf holds: what was wanted lately, and no more than it may."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, strategies as st

from assay.toolcalls.schemas import Shelf


class Maker:
    """Makes a key's square, and keeps count."""

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight
        self.made: list[int] = []

    def __call__(self, key: int) -> tuple[int, int]:
        self.made.append(key)
        return key * key, self.weight


def test_what_is_held_is_made_once() -> None:
    maker = Maker()
    shelf = Shelf(maker, 10)
    assert [shelf.get(key) for key in (3, 4, 3, 4)] == [9, 16, 9, 16]
    assert maker.made == [3, 4]


def test_what_is_wanted_stays_and_the_rest_makes_room() -> None:
    maker = Maker()
    shelf = Shelf(maker, 10)
    for key in range(100):
        shelf.get(key)
        shelf.get(1000)
    assert maker.made.count(1000) == 1
    shelf.get(0)
    assert maker.made.count(0) == 2


def test_what_weighs_too_much_is_never_held() -> None:
    maker = Maker(weight=6)
    shelf = Shelf(maker, 10)
    assert [shelf.get(3), shelf.get(3)] == [9, 9]
    assert (maker.made, len(shelf)) == ([3, 3], 0)


def test_what_cannot_be_made_is_not_held() -> None:
    def fail(key: int) -> tuple[int, int]:
        raise ValueError(key)

    shelf = Shelf(fail, 10)
    for _ in range(2):
        with pytest.raises(ValueError, match="3"):
            shelf.get(3)


@given(st.lists(st.integers(0, 40)), st.integers(1, 5), st.integers(0, 30))
def test_a_shelf_never_holds_more_than_it_may(keys: list[int], weight: int, most: int) -> None:
    shelf = Shelf(Maker(weight), most)
    for key in keys:
        assert shelf.get(key) == key * key
        assert len(shelf) * weight <= most


def test_threads_share_a_shelf() -> None:
    shelf = Shelf(Maker(), 20)
    wrong: list[int] = []

    def want(start: int) -> None:
        wrong.extend(key for i in range(3000) if shelf.get(key := (start + i) % 50) != key * key)

    threads = [threading.Thread(target=want, args=(start,)) for start in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(shelf) <= 20
