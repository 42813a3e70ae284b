"""Two hosts on one machine, and a page that crosses once: what ``make demo-hosts`` shows."""

from __future__ import annotations

import sys

from tests.hosts.lab import Lab, why_not


def main() -> int:
    if why := why_not():
        print(why, file=sys.stderr)
        return 1
    print("two hosts of namespaces, with a controller and two engines each ...", flush=True)
    with Lab(2) as lab:
        client = lab.client()
        print("engines:", client.value("{h: on(h) for h in ('h1', 'h2')}"))
        client.run(
            "X = np.random.default_rng(0).standard_normal((6250, 2000))\n"
            "ms.register_variables('rna', {'X': X})\n"
            "def call():\n"
            "    begun = time.monotonic()\n"
            "    found = ms.memapply('rna.X', 'cols', np.std, cluster=c)\n"
            "    return time.monotonic() - begun, found == [np.std(v) for v in X.T]\n"
        )
        for which in ("first", "second"):
            before = lab.bytes("h2")[0]
            seconds, equal = client.value("call()")
            crossed = (lab.bytes("h2")[0] - before) / 1e6
            print(
                f"{which} memapply over 2,000 columns of 100 MB: {seconds:.2f} s, {crossed:.1f} MB "
                f"went to h2, {'equal to a loop' if equal else 'NOT equal to a loop'}"
            )
        print(f"blocks on h2 now: {len(lab.blocks('h2'))}")
        client.exit()
    return 0


sys.exit(main())
