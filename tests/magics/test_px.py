"""Which cluster the magics use beside ``%%px``, who says so, and that it is given back."""

from __future__ import annotations

import ipyparallel as ipp
import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.engines.local import running_cluster


@pytest.fixture
def theirs():
    """A cluster of the user's, and a client of it: a local one that the magics do not know."""
    made = ms.local_cluster(2, quiet=True)
    client = ipp.Client(
        made._link.connection, profile_dir=made._link.directory, ipython_dir=made._link.directory
    )
    client.wait_for_engines(2, timeout=30)
    yield client
    client.close(linger=0)
    made.stop()


@pytest.fixture
def rna(run):
    ms.register_variables("rna", {"X": np.arange(6.0).reshape(2, 3)})
    yield run
    run("%memshare cluster stop")


def px_client(shell):
    return shell.magics_manager.magics["cell"]["px"].__self__.view.client


def test_a_single_client_of_the_notebook_is_used_and_told_once(
    rna, shell, theirs, capsys, monkeypatch
):
    shell.user_ns["rc"] = theirs
    px = shell.magics_manager.magics["cell"]  # the first client of a process brings it
    monkeypatch.delitem(px, "px", raising=False)
    for told in (1, 0):
        assert rna("%memapply rna.X --fn np.sum") == [3.0, 5.0, 7.0]
        said = capsys.readouterr().out
        assert said.count("the magics use rc: 2 engines (0, 1)") == told
        assert said.count("%memshare cluster start uses a local cluster instead") == told


def test_an_active_px_is_used_before_clients_are_looked_at(rna, shell, theirs, capsys):
    theirs[[1]].activate()
    rna("res = %memapply rna.X --fn np.sum --noblock")
    assert "the magics use the view of %%px: 1 engine (1)" in capsys.readouterr().out
    assert rna("res.engines") == (1,)
    assert rna("res.result(60)") == [3.0, 5.0, 7.0]


@pytest.mark.slow
def test_px_is_bound_anew_only_when_asked_and_given_back(rna, shell, theirs, capsys):
    theirs.activate()
    rna("%memshare attach rna.X --engines -q")
    assert px_client(shell) is theirs
    assert "%%px runs there, too" in repr(rna("%memshare cluster start"))
    assert px_client(shell) is running_cluster().client
    assert "%%px runs where it ran before" in repr(rna("%memshare cluster stop"))
    assert px_client(shell) is theirs


@pytest.mark.slow
def test_unloading_ends_the_local_cluster_that_a_line_started_and_no_other(run, shell):
    mine = ms.local_cluster(1, quiet=True)
    run("x = np.eye(2)\nres = %memapply x --fn np.sum")
    run("%unload_ext memshare_jupyter")
    assert mine.running
    mine.stop()
    run("%load_ext memshare_jupyter")
    run("res = %memapply x --fn np.sum -q")
    started = running_cluster()
    assert started is not None
    run("%unload_ext memshare_jupyter")
    assert not started.running
    run("%load_ext memshare_jupyter")


def test_a_magic_in_a_cell_for_engines_is_named(run, capsys):
    run("x = np.eye(2)")
    with pytest.raises(Exception, match="line 2 of the cell"):
        run("%%memapply x\ny = 1\n%time v.sum()")
    capsys.readouterr()
