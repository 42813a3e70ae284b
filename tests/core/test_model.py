"""Two processes do whatever they like, and every list agrees with a model of twenty lines."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process

NAMES = ["a", "b", "c.d"]
LOOK = "[(p.variable, p.state, p.owner_pid, p.writable, sorted((h.pid, h.role) for h in p.holders))\
 for p in ms.snapshot().pages]"
VALUES = "{key: sorted(set(x.tolist())) for key, x in arrays.items()}"


@dataclass(eq=False)
class Page:
    """What a page is, in the model."""

    name: str
    value: int
    writable: bool
    owner: Actor | None
    owner_pid: int
    released: bool = False

    @property
    def state(self):
        if self.owner is None:
            return "draining" if self.released else "orphaned"
        return "writable" if self.writable else "active"


@dataclass(eq=False)
class Actor:
    """A process: the code it runs, and what the model says it has."""

    run: Callable[[str], object]
    pid: int
    kept: set[tuple[Page, str]] = field(default_factory=set)
    arrays: dict[int, tuple[Page, str]] = field(default_factory=dict)
    private: dict[Page, int] = field(default_factory=dict)

    def views(self):
        """Pages and modes of its views; of a page that is its own, its own arrays are none."""
        held = self.kept | set(self.arrays.values())
        return {(page, mode) for page, mode in held if mode != "own" or page.owner is not self}

    def value(self, page, mode):
        return self.private.get(page, page.value) if mode == "c" else page.value

    def settle(self):
        """Forget what was written to private mappings that have ended."""
        mapped = {page for page, mode in self.views() if mode == "c"}
        self.private = {page: x for page, x in self.private.items() if page in mapped}


class Machine(RuleBasedStateMachine):
    """Everything that two processes can do with three names."""

    def __init__(self, make_child):
        super().__init__()
        self.make_child = make_child
        scope = {"ms": ms, "np": np, "process": process, "pickle": pickle, "arrays": {}}
        self.here = Actor(lambda code: eval(code, scope), os.getpid())  # noqa: S307 -- our own
        self.made = []
        self.begin_child()
        self.pages = []
        self.count = 0

    def begin_child(self):
        child = self.make_child("arrays = {}")
        self.made.append(child)
        self.there = Actor(child.eval, child.pid)

    def teardown(self):
        self.here.run("arrays.clear()")
        self.here.run("ms.memshare_gc('n')")
        self.made[-1].reap()
        assert ms.snapshot().pages == ()

    # what the model knows

    def actor(self, here):
        return self.here if here else self.there

    def owned(self, name):
        return next((p for p in self.pages if p.name == name and p.owner is not None), None)

    def found(self, name):
        """Return the page that the name leads to: its owner's, or the newest whose owner died."""
        held = {page for actor in (self.here, self.there) for page, _ in actor.views()}
        orphans = [p for p in self.pages if p.name == name and p.state == "orphaned" and p in held]
        return self.owned(name) or (orphans[-1] if orphans else None)

    def number(self):
        self.count += 1
        return self.count

    def end(self, page):
        page.owner, page.released = None, True

    def begin(self, actor, name, writable):
        """Have a new page of that name, if that can be; its number."""
        before = self.owned(name)
        if before is not None and before.owner is not actor:
            return None
        if before is not None:
            self.end(before)
        self.pages.append(Page(name, self.number(), writable, actor, actor.pid))
        return self.pages[-1]

    # what processes do

    @rule(here=st.booleans(), name=st.sampled_from(NAMES), writable=st.booleans())
    def register(self, here, name, writable):
        actor = self.actor(here)
        code = "ms.register_variables('n', {{{!r}: np.full(5, {})}}, writable={})"
        page = self.begin(actor, name, writable)
        if page is None:
            with pytest.raises(ms.PageExistsError):
                actor.run(code.format(name, 0, writable))
        else:
            actor.run(code.format(name, page.value, writable))

    @rule(here=st.booleans(), name=st.sampled_from(NAMES), writable=st.booleans())
    def fill_in_place(self, here, name, writable):
        actor = self.actor(here)
        key = self.number()
        code = f"ms.Namespace('n').empty({name!r}, 5, int, writable={writable})"
        code = f"arrays.update({{{key}: {code}}})"
        page = self.begin(actor, name, writable)
        if page is None:
            with pytest.raises(ms.PageExistsError):
                actor.run(code)
        else:
            actor.run(code)
            actor.run(f"arrays[{key}].fill({page.value})")
            actor.arrays[key] = page, "own"

    @rule(here=st.booleans(), names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    def release(self, here, names):
        actor = self.actor(here)
        code = f"ms.release_variables('n', {names})"
        pages = [self.owned(name) for name in names]
        if all(page is not None and page.owner is actor for page in pages):
            actor.run(code)
            for page in pages:
                self.end(page)
        else:
            with pytest.raises((ms.PageNotFoundError, ms.NotOwnerError)):
                actor.run(code)

    @rule(
        here=st.booleans(),
        name=st.sampled_from(NAMES),
        mode=st.sampled_from(["r", "r", "r+", "c"]),
        use=st.booleans(),
    )
    def retrieve(self, here, name, mode, use):
        actor, page, key = self.actor(here), self.found(name), self.number()
        code = f"ms.retrieve_views('n', {name!r}, {mode!r})[{name!r}]"
        code = f"arrays.update({{{key}: {code}}})" if use else f"{code}.size"
        if page is None:
            with pytest.raises(ms.PageNotFoundError):
                actor.run(code)
        elif mode == "r+" and not page.writable:
            with pytest.raises(ms.ReadOnlyPageError):
                actor.run(code)
        else:
            actor.run(code)
            actor.kept.add((page, mode))
            if use:
                actor.arrays[key] = page, mode

    @rule(here=st.booleans(), name=st.sampled_from(NAMES), use=st.booleans())
    def take(self, here, name, use):
        """As a mapping gives it: the handle ends with the array."""
        actor, page, key = self.actor(here), self.found(name), self.number()
        code = f"ms.Namespace('n')[{name!r}]"
        code = f"arrays.update({{{key}: {code}[1:]}})" if use else f"{code}.size"
        if page is None:
            with pytest.raises(ms.PageNotFoundError):
                actor.run(code)
        else:
            actor.run(code)
            if use:
                actor.arrays[key] = page, "r"

    @rule(here=st.booleans(), names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    def detach(self, here, names):
        actor = self.actor(here)
        code = f"ms.release_views('n', {names})"
        views = [{v for v in actor.views() if v[0].name == name} for name in names]
        if all(views):
            actor.kept = {v for v in actor.kept if v[0].name not in names}
            left = [name for name in names if any(p.name == name for p, _ in actor.views())]
            assert sorted(actor.run(code)) == sorted(full(name) for name in left)
        else:
            with pytest.raises(ms.PageNotFoundError):
                actor.run(code)

    @rule(here=st.booleans(), data=st.data())
    def drop_an_array(self, here, data):
        actor = self.actor(here)
        if actor.arrays:
            key = data.draw(st.sampled_from(sorted(actor.arrays)))
            actor.run(f"(arrays.pop({key}), None)[1]")
            del actor.arrays[key]

    @rule(here=st.booleans(), data=st.data())
    def write(self, here, data):
        actor = self.actor(here)
        keys = [k for k, (_, mode) in actor.arrays.items() if mode in {"r+", "c"}]
        if keys:
            page, mode = actor.arrays[key := data.draw(st.sampled_from(sorted(keys)))]
            value = self.number()
            actor.run(f"arrays[{key}].fill({value})")
            if mode == "c":
                actor.private[page] = value
            else:
                page.value = value

    @rule(here=st.booleans(), data=st.data())
    def send_to_the_other(self, here, data):
        actor, other = self.actor(here), self.actor(not here)
        keys = [key for key, (_, mode) in actor.arrays.items() if mode != "c"]
        if keys:
            page, mode = actor.arrays[key := data.draw(st.sampled_from(sorted(keys)))]
            new = self.number()
            sent = actor.run(f"pickle.dumps(arrays[{key}])")
            other.run(f"arrays.update({{{new}: pickle.loads({sent!r})}})")
            if mode == "own":
                mode = "r+" if page.writable else "r"
            other.arrays[new] = page, mode

    @rule(here=st.booleans())
    def collect(self, here):
        actor = self.actor(here)
        ended = {page.name for page in self.pages if page.owner is actor}
        ended |= {page.name for page, _ in actor.views()}
        for page in self.pages:
            if page.owner is actor:
                self.end(page)
        actor.kept.clear()
        left = {full(page.name) for page, _ in actor.views()}
        names, in_use = actor.run("process.registry().gc('n')")
        assert (names, in_use) == (sorted(map(full, ended)), sorted(left))

    @rule()
    def kill_the_child(self):
        self.made[-1].kill()
        for page in self.pages:
            if page.owner is self.there:
                page.owner = None
        self.begin_child()

    # what then holds

    @invariant()
    def lists_agree(self):
        for actor in (self.here, self.there):
            actor.settle()
            owned = sorted(full(page.name) for page in self.pages if page.owner is actor)
            assert actor.run("ms.page_list()") == owned
            viewed = sorted({full(page.name) for page, _ in actor.views()})
            assert actor.run("ms.view_list()") == viewed

    @invariant()
    def snapshots_agree(self):
        holders: dict[Page, Counter] = {page: Counter() for page in self.pages}
        for actor in (self.here, self.there):
            for page, _ in actor.views():
                holders[page][actor.pid, "view"] += 1
        for page in self.pages:
            if page.owner is not None:
                holders[page][page.owner.pid, "owner"] += 1
        self.pages = [page for page in self.pages if holders[page]]
        expected = sorted(
            (p.name, p.state, p.owner_pid, p.writable, sorted(holders[p].elements()))
            for p in self.pages
        )
        for actor in (self.here, self.there):
            assert sorted(actor.run(LOOK)) == expected

    @invariant()
    def values_agree(self):
        for actor in (self.here, self.there):
            values = {key: [actor.value(*held)] for key, held in actor.arrays.items()}
            assert actor.run(VALUES) == values


def full(name):
    return f"n.`{name}`" if "." in name else f"n.{name}"


def run(machine, examples):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pages_as", ["memfd", "file on tmpfs"], indirect=True)
@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(12, id="some examples"),
        pytest.param(200, id="many examples", marks=pytest.mark.slow),
    ],
)
def test_two_processes_agree_with_the_model(child, pages_as, examples):
    run(lambda: Machine(child), examples)
