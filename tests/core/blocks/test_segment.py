"""One contract, every backend: what a block of shared memory must do."""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import signal
import uuid as uuids

import pytest

from memshare_jupyter.core import _proc
from memshare_jupyter.core import blocks as segment
from memshare_jupyter.core.blocks import _handover, _memfd

SIZE = 3 * mmap.PAGESIZE
TEXT = b"written by its maker"
MAKE = f"""
import pickle, uuid
def make(backend, place, writable=False):
    block = segment.create(uuid.uuid4().bytes, {SIZE}, backend, place)
    segment.write_at(block, {TEXT!r}, 0)
    block.seal(writable=writable)
    return block
"""


class SegmentContract:
    """The tests; a subclass says by fixture what blocks are made of and how they are reached."""

    @pytest.fixture
    def kind(self):
        """Backend and place."""
        raise NotImplementedError

    def reached(self, address):
        """Return the address as an attacher uses it."""
        return address

    @pytest.fixture
    def made(self, kind):
        """Make blocks in this process; those left open are closed after the test."""
        blocks = []

        def make(*, sealed=True, writable=False):
            blocks.append(segment.create(uuids.uuid4().bytes, SIZE, *kind))
            segment.write_at(blocks[-1], TEXT, 0)
            if sealed:
                blocks[-1].seal(writable=writable)
            return blocks[-1]

        yield make
        for block in blocks:
            block.close()

    def address(self, block):
        who = (os.getpid(), _proc.pid_namespace(), block.fd, bytes(16))
        return self.reached(segment.Address(block.uuid, *who, block.backend, block.place))

    @pytest.fixture
    def holder(self, child, kind):
        """Make children that hold a block each, and its address."""

        def make():
            one = child(MAKE)
            one.run(f"block = make(*{kind!r})")
            uuid, fd = one.eval("(block.uuid, block.fd)")
            where = segment.Address(uuid, one.pid, _proc.pid_namespace(), fd, bytes(16), *kind)
            return one, self.reached(where)

        return make

    def gone(self, address):
        if address.backend == "file":
            segment.Places(segment.reclaim).use(address.place)  # what a look does
        with pytest.raises(segment.SegmentGone):
            segment.attach(address)
        return True

    def test_a_new_block_is_zeros_of_the_size_asked_for(self, kind):
        block = segment.create(uuids.uuid4().bytes, SIZE, *kind)
        assert os.pread(block.fd, 2 * SIZE, 0) == bytes(SIZE)
        assert (block.size_bytes, block.backend, block.place) == (SIZE, *kind)
        block.close()

    def test_an_attacher_reads_what_the_maker_wrote(self, made):
        block = segment.attach(self.address(made()))
        mapping = segment.map_block(block, mode="r")
        assert mapping[: len(TEXT)] == TEXT
        assert len(mapping) == block.size_bytes == SIZE
        mapping.close()
        block.close()

    def test_processes_attach_from_each_other_by_a_pickled_address(self, holder, child):
        one, where = holder()
        other = child("import pickle")
        other.run(f"block = segment.attach(pickle.loads({pickle.dumps(where)!r}))")
        other.run("mapping = segment.map_block(block, mode='r')")
        assert other.eval("bytes(mapping[:20])") == TEXT
        other.run("mapping.close(); block.close()")
        one.run("block.close()")

    def test_what_is_written_through_an_old_mapping_is_seen_by_all(self, made):
        block = made(sealed=False)
        writing = segment.map_block(block, mode="r+")
        block.seal(writable=False)
        other = segment.attach(self.address(block))
        writing[:5] = b"later"
        assert os.pread(other.fd, 5, 0) == b"later"
        writing.close()
        other.close()

    def test_an_attacher_cannot_write(self, made):
        block = segment.attach(self.address(made()))
        mapping = segment.map_block(block, mode="r")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(block.fd, b"x", 0)
        with pytest.raises(PermissionError):
            segment.map_block(block, mode="r+")
        with pytest.raises(TypeError):
            mapping[0] = 0
        pointer = ctypes.c_void_p(_address_of(mapping))
        both = mmap.PROT_READ | mmap.PROT_WRITE
        assert ctypes.CDLL(None).mprotect(pointer, ctypes.c_size_t(SIZE), both) == -1
        mapping.close()
        block.close()

    def test_a_sealed_block_is_not_attached_for_writing(self, made):
        address = self.address(made())
        with pytest.raises(PermissionError):
            segment.attach(address, writable=True)

    def test_a_writable_block_is_written_by_attachers(self, made):
        block = made(writable=True)
        other = segment.attach(self.address(block), writable=True)
        mapping = segment.map_block(other, mode="r+")
        mapping[:2] = b"OK"
        assert os.pread(block.fd, 2, 0) == b"OK"
        mapping.close()
        other.close()

    def test_an_unsealed_block_grows_by_appending(self, made):
        block = made(sealed=False)
        other = segment.attach(self.address(block), writable=True)
        for fd in (block.fd, other.fd):
            appending = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_APPEND)
            os.write(appending, b"more")
            os.close(appending)
        assert os.fstat(block.fd).st_size == SIZE + 8
        other.close()

    def test_a_block_that_was_let_go_is_gone(self, made):
        block = made()
        address = self.address(block)
        block.close()
        assert self.gone(address)

    def test_another_uuid_is_not_there(self, made):
        assert self.gone(self.address(made())._replace(uuid=bytes(16)))

    def test_a_reused_descriptor_or_file_is_no_block(self, made, tmp_path):
        block = made()
        address = self.address(block)
        fd, uuid = block.fd, block.uuid.hex()
        block.close()
        other = os.open(tmp_path, os.O_RDONLY)
        if other != fd:
            os.dup2(other, fd)
        if block.place:
            os.symlink("/etc/hostname", f"{block.place}/{uuid}.page")
        assert self.gone(address)
        os.close(fd)
        if other != fd:
            os.close(other)
        if block.place:
            os.unlink(f"{block.place}/{uuid}.page")

    def test_a_block_lives_as_long_as_an_attacher(self, holder):
        one, where = holder()
        block = segment.attach(where)
        mapping = segment.map_block(block, mode="r")
        one.kill()
        if block.backend == "file":
            segment.Places(segment.reclaim).use(block.place)
        again = segment.attach(self.address(block))
        assert os.pread(again.fd, 20, 0) == mapping[:20] == TEXT
        again.close()
        mapping.close()
        block.close()
        assert self.gone(self.address(block))

    def test_a_mapping_outlives_everything(self, made):
        block = made()
        mapping = segment.map_block(block, mode="r")
        block.close()
        if block.place:
            assert os.listdir(block.place) == []
        assert mapping[:20] == TEXT
        mapping.close()

    def test_a_killed_holder_leaves_nothing(self, holder, kind):
        one, where = holder()
        one.kill()
        assert self.gone(where)
        assert kind[0] == "memfd" or os.listdir(kind[1]) == []

    def test_a_stopped_holder_still_holds(self, holder):
        one, where = holder()
        one.signal(signal.SIGSTOP)
        if where.backend == "file":
            segment.Places(segment.reclaim).use(where.place)
        one.signal(signal.SIGCONT)
        segment.attach(where).close()
        one.run("block.close()")

    def test_a_forked_child_holds_what_it_inherited(self, holder):
        one, where = holder()
        one.run(
            "ours, theirs = os.pipe(), os.pipe()\n"
            "if (pid := os.fork()) == 0:\n"
            "    os.read(theirs[0], 1)\n"
            "    kept = os.pread(block.fd, 20, 0)\n"
            "    block.close()\n"
            "    os.write(ours[1], kept)\n"
            "    os._exit(0)\n"
            "block.close()"
        )
        fd = where.fd
        pid = one.eval("pid")
        address = where._replace(pid=pid, fd=fd, pid_namespace=_proc.pid_namespace())
        segment.attach(address).close()
        one.run("os.write(theirs[1], b'x'); kept = os.read(ours[0], 20); os.waitpid(pid, 0)")
        assert one.eval("kept") == TEXT
        assert self.gone(address)

    def test_a_forked_child_that_lets_go_takes_nothing_from_its_parent(self, holder):
        one, where = holder()
        one.run(
            "if (pid := os.fork()) == 0:\n    block.close()\n    os._exit(0)\nos.waitpid(pid, 0)"
        )
        if where.backend == "file":
            segment.Places(segment.reclaim).use(where.place)
        segment.attach(where).close()
        one.run("block.close()")
        assert self.gone(where)

    def test_nothing_stays_open(self, made, eventually):
        before = os.listdir("/proc/self/fd")
        block = made()
        other = segment.attach(self.address(block))
        other.close()
        block.close()
        eventually(lambda: os.listdir("/proc/self/fd") == before)  # a server hangs up after us


def _address_of(mapping):
    import numpy as np

    return np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]


class TestMemfd(SegmentContract):
    @pytest.fixture
    def kind(self):
        return "memfd", ""

    def test_nobody_shrinks_a_sealed_block(self, made):
        block = made()
        with pytest.raises(PermissionError):
            os.ftruncate(block.fd, 0)


class TestFileOnTmpfs(SegmentContract):
    @pytest.fixture
    def kind(self, runtime_directory):
        place = runtime_directory.with_name("blocks")
        place.mkdir(mode=0o700, exist_ok=True)
        yield "file", str(place)
        assert os.listdir(place) == []


class TestFileOnDisk(SegmentContract):
    @pytest.fixture
    def kind(self, tmp_path):
        place = tmp_path / "blocks"
        place.mkdir(mode=0o700)
        yield "file", str(place)
        assert os.listdir(place) == []


class TestMemfdOverASocket(SegmentContract):
    """The same with holders that are reached by their socket only."""

    @pytest.fixture
    def kind(self):
        return "memfd", ""

    @pytest.fixture(autouse=True)
    def sockets(self, tmp_path):
        self.directory = tmp_path
        server = _handover.Server(tmp_path / f"{bytes(16).hex()}.socket", _memfd.reopen_held)
        yield
        server.end()

    @pytest.fixture
    def holder(self, child, kind, tmp_path):
        def make():
            token = os.urandom(16)
            one = child(MAKE)
            one.run(f"block = make(*{kind!r})")
            one.run(
                "from memshare_jupyter.core.blocks import _reach as reach\n"
                f"reach = reach.Reach(Path({str(tmp_path)!r}), {token!r}, foreign=True)\n"
                "reach.serve()"
            )
            uuid, fd = one.eval("(block.uuid, block.fd)")
            where = segment.Address(uuid, one.pid, -1, fd, token, "memfd", str(tmp_path))
            return one, where

        return make

    def reached(self, address):
        return address._replace(pid_namespace=-1, place=str(self.directory))
