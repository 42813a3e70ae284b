"""What is put together of lists that come, change and go between two looks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from memshare_jupyter.core.ledger import PAGE, VIEW, Entry, Table, Who
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry._look import Looks


def listing(who, *pages):
    """Make the list of a process: of pages that it views, or (with a dot) owns."""
    table = Table()
    for place, page in enumerate(pages):
        kind, name = (PAGE if page[0] == "." else VIEW), page.removeprefix(".")
        entry = Entry(
            *(kind, PageName("n", name), name.encode() * 16, 3, 8, False, 1.0, 1.0),
            *(7, b"o" * 16, b"{}"),
        )
        table.put(place, entry.pack(), entry)
    return SimpleNamespace(who=who, table=table)


@pytest.fixture
def look():
    """Look at lists; who holds which page, as told by a look that saw the others before."""
    looks, mine = Looks(), listing(Who.me("mine"))

    def take(*sessions):
        snapshot, _ = looks.take([mine, *sessions])
        fresh, _ = Looks().take([mine, *sessions])
        found = {page.variable: [holder.pid for holder in page.holders] for page in snapshot.pages}
        assert found == {p.variable: [h.pid for h in p.holders] for p in fresh.pages}
        return found

    return take


def test_a_list_that_is_seen_with_the_one_that_took_its_place_leaves_nothing(look):
    who = Who.me("other")._replace(pid=8)
    old, new = listing(who, ".a", "b"), listing(who, ".a")
    look(old)
    assert look(old, new) == {"a": [8, 8], "b": [8]}
    assert look(new) == {"a": [8]}
    assert look() == {}


def test_a_list_that_is_read_anew_leaves_nothing_of_before(look):
    who = Who.me("other")._replace(pid=8)
    other = listing(who, ".a", "b")
    look(other)
    other.table.put(1, None)
    other.table = listing(who, ".a").table
    assert look(other) == {"a": [8]}
    other.table = Table()
    assert look(other) == {}


def test_after_a_look_that_was_broken_off_nothing_is_left_of_what_has_gone(look, monkeypatch):
    other = listing(Who.me("other"), ".a")
    look(other)

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Looks, "_stale", broken)
        with pytest.raises(KeyboardInterrupt):
            look(other)
    assert look() == {}


def test_numbers_in_names_are_numbers_to_the_order_of_pages(look):
    names = [".v13", ".v2", ".v1", ".v02", ".v"]
    assert list(look(listing(Who.me("other"), *names))) == ["v", "v1", "v02", "v2", "v13"]
