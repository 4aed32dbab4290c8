"""The checksum of a file is right, however many threads add the file's pieces."""

import hashlib
import threading
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from support.pgstow import PATIENCE

from pipeline.concurrency import Workers
from pipeline.stages.digest import OrderedDigest


@given(st.lists(st.sampled_from([b"", b"\n", b"a\nb", b"\n" * 3000, b"x" * 5000]), max_size=20))
def test_threads_add_pieces_in_the_files_order(pieces: list[bytes]) -> None:
    digest = OrderedDigest(hashlib.sha256())
    with Workers() as workers:
        pool = workers.pool(3, "hash")
        for index, piece in enumerate(pieces):
            pool.submit(partial(digest.add, index, piece), lambda result: None)
        while pool.pending:
            workers.collect(timeout=PATIENCE)
    whole = b"".join(pieces)
    assert digest.hexdigest() == hashlib.sha256(whole).hexdigest()
    assert digest.lines == whole.count(b"\n")


def test_a_piece_waits_for_the_earlier_pieces() -> None:
    digest, added = OrderedDigest(hashlib.sha256()), threading.Event()

    def add_second() -> None:
        digest.add(1, b"second\n")
        added.set()

    thread = threading.Thread(target=add_second, daemon=True)
    thread.start()
    assert not added.wait(0.05)
    digest.add(0, b"first\n")
    assert added.wait(PATIENCE)
    thread.join(PATIENCE)
    assert digest.hexdigest() == hashlib.sha256(b"first\nsecond\n").hexdigest()
