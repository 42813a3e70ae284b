"""Files that each host loads by itself: nothing crosses, and what differs is refused."""

from __future__ import annotations

import pytest

import memshare_jupyter as ms


@pytest.fixture(scope="module")
def client(two):
    made = two.client()
    made.run(
        f"folder = {two.directory!r}\n"  # which all hosts of the lab see
        "A = np.random.default_rng(0).standard_normal((1000, 2000))\n"
        "np.save(folder + '/a.npy', A)\n"
        "np.save('/dev/shm/b.npy', A)\n"
        "call = lambda: ms.memapply('rna.X', 'cols', np.std, cluster=c) "
        "== [np.std(v) for v in A.T]"
    )
    yield made
    made.exit()


@pytest.mark.parametrize("loader", ["None", "lambda path: np.load(path)"])
def test_nothing_crosses_of_a_file_that_each_host_sees(two, client, loader):
    client.run("ms.memapply(A[:2], 'rows', np.sum, cluster=c)")
    before = two.bytes("h2")[0]
    client.run(f"ms.register_file('rna', 'X', folder + '/a.npy', cluster=c, loader={loader})")
    assert client.value("call()")
    assert two.bytes("h2")[0] - before < 500_000
    client.run("ms.release_variables('rna', 'X')")


def test_a_host_without_the_file_gets_the_page(two, client):
    client.run("ms.register_file('rna', 'X', '/dev/shm/b.npy', cluster=c)")
    assert client.value("call()")
    client.run("ms.release_variables('rna', 'X')")


def test_another_file_of_that_name_is_refused_by_the_name_of_its_host(two, client):
    client.run(
        "def put():\n    import numpy as np\n    np.save('/dev/shm/b.npy', np.ones((1000, 2000)))\n"
        "c[on('h2')[0]].apply_sync(put)"
    )
    with pytest.raises(ms.UnsupportedValueError, match=r"b\.npy is not the same .* h2: its"):
        client.run("ms.register_file('rna', 'X', '/dev/shm/b.npy', cluster=c)")
    assert client.value("ms.page_list()") == []
