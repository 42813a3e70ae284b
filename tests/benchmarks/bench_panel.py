"""What an open panel costs the kernel: time of a tick, and share of a processor in a few scenes.

Run ``python tests/benchmarks/bench_panel.py``. A tick is a look at the registry, the message about
what changed, and its encoding as ipykernel does it; it comes twice a second. The pages are another
process's, so that a tick has to read them from shared memory as it would an engine's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

from ipykernel.jsonutil import json_clean
from jupyter_client.session import Session

import memshare_jupyter as ms
from memshare_jupyter.core.registry._process import registry
from memshare_jupyter.panel import Panel
from memshare_jupyter.panel._feed import Feed

OWNER = """
import sys, time
import memshare_jupyter as ms
pages = int(sys.argv[1])
for start in range(0, pages, 500):
    values = {f"x{i}": i for i in range(start, min(pages, start + 500))}
    ms.register_variables(f"bench{start}", values)
print("ready", flush=True)
for line in sys.stdin:
    count, rate, seconds = map(int, line.split())
    end = time.monotonic() + seconds
    while True:
        ms.register_variables("bench0", {f"x{i}": 0 for i in range(count)})
        if time.monotonic() >= end:
            break
        time.sleep(count / rate)
    print("done", flush=True)
"""


def milliseconds(work, times: int, before=lambda: None) -> float:
    """Median processor time of a call on this thread."""
    took = []
    for _ in range(times):
        before()
        begin = time.thread_time()
        work()
        took.append(time.thread_time() - begin)
    return round(statistics.median(took) * 1000, 3)


def measure(pages: int) -> dict[str, float]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(pages)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        owner.stdout.readline()
        session = Session(key=b"a key, so that messages are signed")
        feed = Feed()

        def tell(message) -> int:
            if message is None:
                return 0
            content = json_clean({"data": {"method": "custom", "content": message}})
            return len(b"".join(session.serialize(session.msg("comm_msg", content))))

        def change(count: int) -> None:
            owner.stdin.write(f"{count} 1 0\n")
            owner.stdin.flush()
            owner.stdout.readline()

        everything_bytes = tell(feed.everything())
        return {
            "pages": len(ms.snapshot().pages),
            "all_ms": milliseconds(lambda: tell(feed.everything()), 5),
            "all_bytes": everything_bytes,
            "tick_unchanged_ms": milliseconds(lambda: tell(feed.changes()), 50),
            "tick_one_changed_ms": milliseconds(
                lambda: tell(feed.changes()), 50, lambda: change(1)
            ),
            "tick_hundred_changed_ms": milliseconds(
                lambda: tell(feed.changes()), 20, lambda: change(min(100, pages))
            ),
        }
    finally:
        owner.stdin.close()
        owner.stdout.close()
        owner.wait()


def watched(
    pages: int, seconds: int, *, views: bool = False, opened: bool = False, changes: int = 0
) -> dict[str, object]:
    """Share of a processor of the kernel while a page of a browser shows the panel, and bytes sent.

    Another process owns the pages, and registers `changes` of them anew each second; with `views`
    this one has attached all. With `opened` one row is.
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(pages)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    session = Session(key=b"a key, so that messages are signed")
    sizes = []

    def send(message) -> None:
        content = json_clean({"data": {"method": "custom", "content": message}})
        sizes.append(len(b"".join(session.serialize(session.msg("comm_msg", content)))))

    panel = Panel()
    panel.send = send
    try:
        owner.stdout.readline()
        found = ms.snapshot().pages
        if views:
            for namespace in {page.namespace for page in found}:
                names = [page.variable for page in found if page.namespace == namespace]
                ms.retrieve_views(namespace, names)
        row = [found[0].uuid] if opened else []
        panel._hear({"type": "hello", "who": "a page", "opened": row}, None)
        time.sleep(3)
        if changes:
            owner.stdin.write(f"1 {changes} {seconds + 2}\n")
            owner.stdin.flush()
            time.sleep(1)
        sizes.clear()
        before = time.process_time()
        time.sleep(seconds)
        took = time.process_time() - before
        return {
            "pages": pages,
            "views": views,
            "opened": opened,
            "changes_per_s": changes,
            "kernel_percent": round(100 * took / seconds, 2),
            "kB_per_s": round(sum(sizes) / seconds / 1000, 2),
        }
    finally:
        panel.close()
        owner.stdin.close()
        owner.stdout.close()
        owner.wait()
        registry().gc()


def idle(seconds: float) -> dict[str, float]:
    """Share of a processor that a panel takes while nothing happens."""
    sent = []
    panel = Panel()
    panel.send = lambda message: sent.append(message["type"])
    panel._publisher.ask()
    time.sleep(1)
    sent.clear()
    before = time.process_time()
    time.sleep(seconds)
    took = time.process_time() - before
    panel.close()
    return {
        "idle_percent": round(100 * took / seconds, 3),
        "idle_messages": sorted(set(sent)),
        "idle_messages_per_s": round(len(sent) / seconds, 2),
        "threads_left": threading.active_count() - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--idle", type=float, default=10.0, help="seconds")
    parser.add_argument("--watched", type=int, default=20, help="seconds of each scene")
    arguments = parser.parse_args()
    for pages in arguments.pages:
        print(json.dumps(measure(pages)))
    print(json.dumps({"pid": os.getpid(), **idle(arguments.idle)}))
    for scene in (
        {"pages": 0},
        {"pages": 5000},
        {"pages": 5000, "changes": 50},
        {"pages": 5000, "views": True},
        {"pages": 5000, "views": True, "opened": True},
        {"pages": 5000, "views": True, "opened": True, "changes": 50},
    ):
        print(json.dumps(watched(seconds=arguments.watched, **scene)), flush=True)
    registry().gc()


if __name__ == "__main__":
    main()
