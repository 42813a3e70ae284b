"""What the attack found of blocks, each reduced to the few steps that it takes."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid

from memshare_jupyter.core.blocks import _file


def test_who_sweeps_second_does_not_remove_a_file_that_was_made_meanwhile(tmp_path):
    number = uuid.uuid4().bytes
    path = tmp_path / f"{number.hex()}.page"
    path.touch()
    late = os.open(path, os.O_RDONLY)  # it has looked, and waits for the lock
    path.unlink()
    block = _file.create(number, 100, str(tmp_path))
    _file._remove_if_last(late, str(tmp_path), number)
    assert path.exists()
    os.close(late)
    block.close()
    assert not path.exists()


def test_a_file_that_is_swept_as_it_is_made_is_made_again(tmp_path, monkeypatch):
    number = uuid.uuid4().bytes
    path = tmp_path / f"{number.hex()}.page"
    try_lock, sweepers = _file._locks, []

    def sweep():
        path.unlink()
        os.close(sweepers[0])

    def swept(fd, place):
        if not sweepers:
            sweepers.append(os.open(path, os.O_RDONLY))
            fcntl.flock(sweepers[0], fcntl.LOCK_EX)
            threading.Timer(0.05, sweep).start()
        return try_lock(fd, place)

    monkeypatch.setattr(_file, "_locks", swept)
    block = _file.create(number, 100, str(tmp_path))
    assert os.fstat(block.fd).st_nlink == 1
    block.close()
    assert not path.exists()
