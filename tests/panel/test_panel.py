"""The panel's side in the kernel: what it says, and when."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import Run
from memshare_jupyter.core.registry._process import registry
from memshare_jupyter.display import twin
from memshare_jupyter.panel import _feed, _publisher
from memshare_jupyter.panel._feed import Feed
from memshare_jupyter.panel._publisher import Publisher

# --- what it says ------------------------------------------------------------------------


def test_all_tells_of_every_page_and_of_memory(rna):
    said = Feed().everything()
    row = next(row for row in said["pages"] if row["variable"] == "X")
    page = rna["X"]
    assert row == {
        "uuid": page.uuid, "namespace": "rna", "variable": "X", "kind": "array",
        "dtype": "float64", "shape": (3, 4), "order": "F", "size": 96, "mode": "r",
        "created": page.created, "owner": page.owner_pid, "state": "active",
        "holders": [(page.owner_pid, page.holders[0].label, "owner", page.created, True)],
    }  # fmt: skip
    assert [row["variable"] for row in said["pages"]] == ["X", "y"]
    assert said["memory"][0]["where"] == "this machine"
    assert 0 < said["memory"][0]["free"] <= said["memory"][0]["limit"]
    assert said["history"][-1][1] == sum(page.size_bytes for page in rna.values())


def test_processes_of_several_pid_namespaces_are_told_apart(rna):
    page = rna["X"]
    mine = page.holders[0]
    theirs = mine._replace(role="view", here=False, pid_namespace=7)
    row = _feed._row(page._replace(holders=(mine, theirs)))
    assert [holder[5:] for holder in row["holders"]] == [
        (f"{mine.pid} in {mine.pid_namespace}",),
        (f"{mine.pid} in 7",),
    ]


def test_a_diff_tells_only_of_what_changed(rna, child):
    feed = Feed()
    feed.everything()
    assert feed.changes() is None
    viewer = child("y = ms.retrieve_views('rna', 'y')['y']")
    said = feed.changes()
    assert said["type"] == "diff"
    assert [(row["variable"], len(row["holders"])) for row in said["changed"]] == [("y", 2)]
    assert said["gone"] == []
    viewer.kill()
    ms.release_variables("rna", "y")
    said = feed.changes()
    assert (said["changed"], said["gone"]) == ([], [rna["y"].uuid])
    assert feed.changes() is None


def test_a_beat_tells_that_somebody_is_there_when_nothing_changes(rna, monkeypatch):
    monkeypatch.setattr(_feed, "BEAT_S", 0.0)
    feed = Feed()
    feed.everything()
    said = feed.changes()
    assert said["type"] == "beat"
    assert said.keys() == {"type", "now", "memory"}


def test_a_feed_of_one_namespace_is_silent_about_others(rna):
    feed = Feed("rna")
    assert len(feed.everything()["pages"]) == 2
    ms.register_variables("other", {"X": 1.0})
    assert feed.changes() is None
    ms.release_variables("other", "X")


def test_history_notes_each_change_of_the_shared_bytes(rna):
    feed = Feed()
    feed.everything()
    ms.register_variables("rna", {"z": np.zeros(1000)})
    feed.changes()
    ms.release_variables("rna", "z")
    feed.changes()
    small = rna["X"].size_bytes + rna["y"].size_bytes
    assert [size for _, size in feed.everything()["history"]] == [small, small + 8000, small]


def test_what_holders_have_in_memory_is_told_of_opened_pages_only(rna, monkeypatch):
    monkeypatch.setattr(_feed, "BEAT_S", 0.0)
    feed = Feed()
    assert feed.everything()["shares"] == {}
    feed.opened["a page"] = frozenset([rna["X"].uuid, "an uuid that is gone"])
    feed.opened["another"] = frozenset([rna["y"].uuid])
    said = feed.changes()
    assert said["type"] == "diff"
    assert said["shares"].keys() == {rna["X"].uuid, rna["y"].uuid}
    assert list(said["shares"][rna["X"].uuid]) == [str(rna["X"].owner_pid)]
    feed.opened["another"] = frozenset()
    assert feed.changes()["shares"].keys() == {rna["X"].uuid}
    feed.opened.clear()
    assert feed.changes()["shares"] == {}


def test_a_look_at_shares_that_takes_long_is_rare(rna, monkeypatch):
    looks = []

    def slow(pid, _namespace):
        looks.append(pid)
        time.sleep(0.01)
        return {rna["X"].uuid: 96}

    monkeypatch.setattr(_feed, "BEAT_S", 0.0)
    monkeypatch.setattr(_feed, "share_bytes", slow)
    feed = Feed()
    feed.opened["a page"] = frozenset([rna["X"].uuid])
    for _ in range(20):
        feed.changes()
    assert len(looks) == 1
    feed.opened["a page"] |= {rna["y"].uuid}  # what is opened is looked at now
    assert rna["y"].uuid in feed.changes()["shares"]


@pytest.mark.parametrize("name", ["class", "None", "lambda", "retrieve_views", "print", "a b"])
def test_a_name_that_a_snippet_must_not_assign_is_told_of(name):
    ms.register_variables("rna", {name: 1.0, "größe": 2.0})
    rows = {row["variable"]: row for row in Feed().everything()["pages"]}
    assert rows[name]["view"] == "view"
    assert "view" not in rows["größe"]
    registry().gc()


def test_a_run_that_waits_for_another_is_queued_and_its_speed_is_its_own(monkeypatch):
    runs = [Run("one", 10, [0, 1]), Run("two", 10, [1]), Run("three", 10, [2])]
    for run in runs:
        run.begin()
    try:
        said = _feed._runs()
        assert [run["ahead"] for run in said] == [None, "one", None]
        assert [run["started"] for run in said] == [None, None, None]
        assert "queued" in repr(runs[1])
        before = time.time()
        runs[1].watch(lambda: [3])
        (since, done) = _feed._runs()[1]["started"]
        assert before <= since <= time.time()
        assert done == 3
        runs[1].watch(lambda: [5])
        assert _feed._runs()[1]["started"] == (since, 3)
        assert _feed._runs()[1]["ahead"] is None
    finally:
        for run in runs:
            run.end()


def test_runs_are_told_of_while_they_go_on(rna):
    feed = Feed()
    run = Run("score over 10 columns of rna.X", 10, [0, 3])
    run.begin()
    try:
        said = feed.everything()["runs"][0]
        assert (said["title"], said["total"], said["engines"]) == (run.title, 10, [0, 3])
        assert (said["done"], said["stopping"]) == ([0, 0], False)
        assert feed.changes() is None
        run.watch(lambda: [4, 2])
        assert feed.changes()["runs"][0]["done"] == [4, 2]
        run.watch(lambda: [6, 4])
    finally:
        run.end()
    run.set_result(None)
    (last,) = feed.changes()["runs"]  # what was last is kept
    assert (last["id"], last["state"], last["done"]) == (run.id, "done", [6, 4])
    assert feed.changes() is None


# --- when it says it ---------------------------------------------------------------------


class Heard(list):
    """Messages, which can be waited for."""

    def __call__(self, message):
        self.append(message)

    def types(self):
        return [message["type"] for message in self]


@pytest.fixture
def published():
    """A publisher and what it sends."""
    heard = Heard()
    publisher = Publisher(Feed(), heard, lambda: None, lambda: None)
    yield publisher, heard
    publisher.stop()
    assert "memshare panel" not in {thread.name for thread in threading.enumerate()}


def publishers():
    return [thread for thread in threading.enumerate() if thread.name == "memshare panel"]


def test_a_page_that_asks_is_told_all_and_then_the_changes(published, eventually):
    publisher, heard = published
    publisher.ask()
    eventually(lambda: heard.types()[:1] == ["all"])
    ms.register_variables("rna", {"X": 1.0})
    eventually(lambda: "diff" in heard.types())
    publisher.ask()
    eventually(lambda: heard.types().count("all") >= 2)
    assert len(publishers()) == 1
    ms.release_variables("rna", "X")


def test_all_is_said_unasked_too_for_a_kernel_that_hears_nothing(published, eventually):
    publisher, heard = published
    publisher.start()
    eventually(lambda: heard.types().count("all") >= 2)


def test_an_answer_is_said_at_once_and_by_the_same_thread(published, eventually, monkeypatch):
    monkeypatch.setattr(_publisher, "TICK_S", 3600.0)
    publisher, heard = published
    publisher.ask()
    eventually(lambda: heard.types() == ["all"])
    publisher.answer({"type": "done", "id": 1})
    eventually(lambda: "done" in heard.types())
    # Who has missed it is told again.
    publisher.ask()
    eventually(lambda: heard.types().count("all") == 2)
    assert [one["id"] for one in heard[-1]["answers"]] == [1]
    assert [one["number"] for one in heard] == list(range(1, len(heard) + 1))


def test_when_nobody_is_left_the_publisher_ends_and_it_begins_again(
    published, eventually, monkeypatch
):
    monkeypatch.setattr(_publisher, "NOBODY_S", 0.05)
    monkeypatch.setattr(_publisher, "TICK_S", 0.01)
    publisher, heard = published
    publisher.ask()
    publisher.left()
    eventually(lambda: not publisher.running)
    assert "who" in heard.types()
    eventually(lambda: publishers() == [])
    heard.clear()
    publisher.ask()
    eventually(lambda: "all" in heard.types())


def test_who_is_still_there_keeps_the_publisher(published, eventually, monkeypatch):
    monkeypatch.setattr(_publisher, "TICK_S", 0.01)
    monkeypatch.setattr(_feed, "BEAT_S", 0.01)
    publisher, heard = published
    publisher.ask()
    publisher.left()
    publisher.start()
    monkeypatch.setattr(_publisher, "NOBODY_S", 0.0)
    heard.clear()
    eventually(lambda: heard.types().count("beat") >= 5)
    assert publisher.running


@pytest.mark.parametrize("heard_at_once", [True, False])
def test_pages_that_were_closed_without_a_word_end_the_publisher(
    eventually, monkeypatch, heard_at_once
):
    for name in ("NOBODY_S", "TICK_S", "ROLL_CALL_S"):
        monkeypatch.setattr(_publisher, name, 0.02)
    monkeypatch.setattr(_feed, "BEAT_S", 0.0)
    heard = Heard()
    publisher = Publisher(Feed(), heard, lambda: None, lambda: None)
    publisher.heard_at_once = {"one": True, "two": heard_at_once}
    publisher.ask()
    if heard_at_once:
        eventually(lambda: not publisher.running)
        assert "who" in heard.types()
    else:  # they may well be there, and wait for a cell to end
        eventually(lambda: len(heard) >= 10)
        assert publisher.running
        assert "who" not in heard.types()
    publisher.stop()


def test_a_registry_that_fails_is_told_of_until_it_works_again(published, eventually, monkeypatch):
    monkeypatch.setattr(_publisher, "TICK_S", 0.01)
    publisher, heard = published
    publisher.ask()
    eventually(lambda: "all" in heard.types())

    def broken(_self):
        raise ms.RegistryCorruptError("it is a link")

    with monkeypatch.context() as patch:
        patch.setattr(type(registry()), "snapshot", broken)
        eventually(lambda: "error" in heard.types())
        assert heard[-1]["text"] == "RegistryCorruptError: it is a link"
    heard.clear()
    eventually(lambda: "all" in heard.types())


HELLO = {"type": "hello", "who": "a page", "opened": []}


# --- the widget --------------------------------------------------------------------------


def test_closing_a_panel_ends_its_thread(capsys):
    panel = ms.Panel()
    assert publishers() == []  # nobody looks at it yet
    panel._hear(HELLO, None)
    assert len(publishers()) == 1
    panel.close()
    assert publishers() == []
    for kind in ("hello", "here", "leave"):  # said before the page heard of it
        panel._hear({**HELLO, "type": kind}, None)
        assert publishers() == []
    panel.close()
    panel._ipython_display_()
    assert "this panel was closed" in capsys.readouterr().out
    assert publishers() == []


def test_opened_rows_are_each_pages_own_and_go_with_it(monkeypatch):
    panel = ms.Panel()
    sent = Heard()
    monkeypatch.setattr(panel, "send", sent)
    opened = panel._feed.opened
    for who, uuids in (("one", ["a"]), ("two", ["b"]), ("reloaded", ["c"])):
        panel._hear({"type": "hello", "who": who, "opened": uuids}, None)
    assert opened == {"one": {"a"}, "two": {"b"}, "reloaded": {"c"}}
    panel._hear({"type": "leave", "who": "two"}, None)
    assert opened.keys() == {"one", "reloaded"}
    panel._publisher.stop()
    for _ in range(2):
        panel._tell({"type": "who"})
        panel._hear({"type": "here", "who": "one", "opened": ["a"]}, None)
    assert opened == {"one": {"a"}}
    panel.close()


def test_a_panel_that_nobody_shows_lets_go_of_its_comms_when_another_is_shown(
    eventually, monkeypatch, capsys
):
    monkeypatch.setattr(_publisher, "NOBODY_S", 0.01)
    monkeypatch.setattr(_publisher, "TICK_S", 0.01)
    first, second = ms.Panel(), ms.Panel()
    for panel in (first, second):
        panel._hear(HELLO, None)
    first._hear({"type": "leave", "who": "a page"}, None)
    eventually(lambda: first.comm is None)
    assert first.layout.comm is None
    first._ipython_display_()  # as when the variable is the last line of a cell
    assert first.comm is not None
    assert "this panel was closed" not in capsys.readouterr().out
    first.close()
    # The last one stays, for whoever undoes the deletion of its cell.
    second._hear({"type": "leave", "who": "a page"}, None)
    eventually(lambda: not second._publisher.running)
    assert second.comm is not None
    second.close()


def test_an_impossible_namespace_is_refused():
    with pytest.raises(ms.InvalidNameError, match="starts with a dot"):
        ms.Panel(".hidden")


def test_a_click_is_answered(rna, eventually, monkeypatch):
    panel = ms.Panel()
    heard = Heard()
    monkeypatch.setattr(panel, "send", heard)
    panel._hear(HELLO, None)
    asked = {"action": "release", "page": [rna["y"].uuid, rna["y"].created]}
    panel._hear({"type": "do", "who": "a page", "id": 7, **asked}, None)
    eventually(lambda: "done" in heard.types())
    done = heard[heard.types().index("done")]
    assert (done["who"], done["id"], done["ok"]) == ("a page", 7, True)
    assert ms.page_list() == ["rna.X"]
    panel.close()


def test_the_process_ends_in_order_with_a_panel_open(interpreter, runtime_directory):
    before = set(runtime_directory.glob("*.session"))
    interpreter(
        "import memshare_jupyter as ms\n"
        "panel = ms.Panel(); panel._publisher.ask()\n"
        "ms.register_variables('rna', {'X': 1.0})"
    )
    assert ms.snapshot().pages == ()
    assert set(runtime_directory.glob("*.session")) <= before


def test_the_stored_table_names_its_time_and_escapes_names(rna):
    ms.register_variables("rna", {"<b>": 1.0})
    bundle = twin(ms.snapshot().pages, None, "memshare-twin-1")
    assert bundle["text/html"].startswith('<div class="memshare-twin-1">')
    assert "rna.&lt;b&gt;" in bundle["text/html"]
    assert bundle["text/html"].count('scope="rowgroup"') == 1
    assert "as of 20" in bundle["text/html"]
    assert "rna.X" in bundle["text/plain"]


def test_tables_of_text_and_html_have_v2_before_v13():
    ms.register_variables("n", {f"v{i}": 1.0 for i in (13, 2, 1)})
    for text in twin(ms.snapshot().pages, None, "c").values():
        assert text.index("n.v1") < text.index("n.v2") < text.index("n.v13")
    ms.memshare_gc("n")


def test_lines_of_the_stored_table_end_between_words_and_names_are_copied_whole(rna):
    ms.register_variables("rna", {"matrix_of_<b>.v2": 1.0})
    html = twin(ms.snapshot().pages, None, "c")["text/html"]
    assert ">matrix_<wbr>of_&lt;b&gt;.<wbr>v2</td>" in html
    assert 'title="rna.`matrix_of_&lt;b&gt;.v2`"' in html


def test_the_stored_table_of_very_many_pages_is_cut(rna):
    pages = [rna["X"]] * 1000
    bundle = twin(pages, "rna", "c")
    assert "1,000 pages" in bundle["text/html"]
    assert "and 800 pages more" in bundle["text/html"]
    assert bundle["text/html"].count("<tr>") == 202  # of which one heads the columns, one a group
