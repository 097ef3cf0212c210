"""When Python looks for garbage, around work that makes many objects."""

from __future__ import annotations

import gc

import pytest

from ffdi.memory import only_new_collected, uncollected


def test_nothing_is_collected_inside_and_what_was_set_before_holds_after() -> None:
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled(), "the inner one ends the pause of the outer one"
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), uncollected():
        _ = 1 / 0
    assert gc.isenabled()


def test_only_what_is_new_is_looked_at() -> None:
    rows = [["a row"] for _ in range(3)]
    assert any(item is rows for item in gc.get_objects())
    with only_new_collected():
        new = [["a new row"]]
        objects = gc.get_objects()
        assert any(item is new for item in objects)
        assert not any(item is rows for item in objects)
    assert any(item is rows for item in gc.get_objects())
