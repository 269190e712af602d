"""A tape gives back what was written, in order, whatever happened to the process, the clock or the disk meanwhile."""

import gzip
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clock import ReplayClock
from app.errors import InputError
from app.feed.tape import Arrived, Channel, Tape, read

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
ROOMY = 10_000_000


class Recording:
    """A tape with a clock that the test moves, and what was written to it."""

    def __init__(self, directory: Path, quota: int = ROOMY, hidden: tuple[str, ...] = (), at: datetime = NOON) -> None:
        self.directory = directory
        self.clock = ReplayClock(at)
        self.tape = Tape(directory, quota, self.clock, hidden)
        self.written: list[Arrived] = []

    def write(self, payload: bytes, channel: Channel = "socket", symbol: str = "", provider: str = "finnhub") -> None:
        self.tape.write(provider, channel, symbol, payload, self.clock.now())
        self.written.append(Arrived(provider, channel, symbol, payload, self.clock.now()))

    def wait(self, by: timedelta) -> None:
        self.clock.set(self.clock.now() + by)

    def noise(self, count: int, size: int = 1000) -> None:
        """Write what cannot be compressed, a second apart."""
        for _ in range(count):
            self.write(os.urandom(size))
            self.wait(SECOND)


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in files(directory))


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    record = Recording(tmp_path / "made" / "tape")
    record.write(b'{"type":"ping"}')
    record.write(b'{"c":1}', "quote", "AAPL", "twelvedata")
    record.wait(0.123456 * SECOND)
    record.write(b"", "bars", "BTC/USD")
    record.write(bytes(range(256)) * 1000, "bars", "Ünïcode")
    record.tape.close()
    assert list(read(record.directory)) == record.written
    assert not record.tape.ended


@given(st.lists(st.tuples(st.binary(max_size=200), st.sampled_from(["socket", "quote", "bars"]), st.floats(-9, 4000))))
def test_any_bytes_at_any_times_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, Channel, float]]
) -> None:
    record = Recording(tmp_path_factory.mktemp("tape"))
    record.write(b"first")
    for payload, channel, pause in pieces:
        record.wait(pause * SECOND)
        record.write(payload, channel, "S")
    record.tape.close()
    assert list(read(record.directory)) == record.written


def test_a_segment_is_a_gzip_file_named_after_the_time_it_began(tmp_path: Path) -> None:
    record = Recording(tmp_path)
    record.write(b"readable with zcat")
    record.tape.close()
    assert [path.name for path in files(tmp_path)] == ["tape-000001-20260505T120000Z.gz"]
    assert b"readable with zcat" in gzip.decompress(files(tmp_path)[0].read_bytes())


def test_each_hour_begins_a_segment_and_so_does_each_start(tmp_path: Path) -> None:
    record = Recording(tmp_path)
    for _ in range(4):
        record.write(b"half an hour")
        record.wait(HOUR / 2)
    record.tape.close()
    again = Recording(tmp_path, at=NOON - HOUR)
    again.write(b"after a restart, with the clock gone back")
    again.tape.close()
    assert [path.name[5:11] for path in files(tmp_path)] == ["000001", "000002", "000003"]
    assert list(read(tmp_path)) == record.written + again.written


def test_a_tape_that_was_never_written_to_makes_no_file(tmp_path: Path) -> None:
    record = Recording(tmp_path / "tape")
    record.tape.flush()
    record.tape.close()
    assert not record.directory.exists()


def test_writing_goes_on_after_a_close(tmp_path: Path) -> None:
    record = Recording(tmp_path)
    for _ in range(3):
        record.write(b"piece")
        record.tape.close()
    assert list(read(tmp_path)) == record.written
    assert len(files(tmp_path)) == 3


def test_what_is_older_than_a_few_seconds_can_be_read_while_the_tape_runs(tmp_path: Path) -> None:
    record = Recording(tmp_path)
    for number in range(100):
        record.write(b"%d" % number)
        record.wait(SECOND)
    assert len(list(read(tmp_path))) >= 97
    record.tape.flush()
    assert list(read(tmp_path)) == record.written


# -- the quota --


def test_the_oldest_segments_are_deleted_to_keep_the_quota(tmp_path: Path) -> None:
    record = Recording(tmp_path, quota=100_000)
    for _ in range(50):
        record.noise(10)
        assert size(tmp_path) <= 100_000
    record.tape.close()
    kept = list(read(tmp_path))
    assert kept == record.written[-len(kept) :]
    assert len(kept) >= 70  # of a hundred that the quota has room for; a quarter goes at a time


def test_old_segments_of_another_run_count_for_the_quota(tmp_path: Path) -> None:
    first = Recording(tmp_path, quota=100_000)
    first.noise(90)
    first.tape.close()
    second = Recording(tmp_path, quota=50_000, at=NOON + HOUR)
    second.noise(1)
    second.tape.close()
    assert size(tmp_path) <= 50_000
    assert list(read(tmp_path))[-1] == second.written[-1]


def test_a_quota_smaller_than_one_piece_keeps_the_newest_piece_alone(tmp_path: Path) -> None:
    record = Recording(tmp_path, quota=500)
    record.noise(20)
    record.tape.close()
    assert list(read(tmp_path)) == record.written[-1:]
    assert not record.tape.ended


def test_what_is_not_of_the_tape_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"x" * 10_000)
    (tmp_path / "tape-of-mine.gz").write_bytes(b"x" * 10_000)
    record = Recording(tmp_path, quota=4000)
    record.noise(20)
    record.tape.close()
    assert {path.name for path in files(tmp_path)} > {"notes.txt", "tape-of-mine.gz"}
    assert list(read(tmp_path))[-1] == record.written[-1]


# -- faults --


def test_the_keys_are_starred_out(tmp_path: Path) -> None:
    record = Recording(tmp_path, hidden=("planted", "planted-key", ""))
    record.write(b'{"url":"wss://ws.example?token=planted-key","again":"planted"}')
    record.tape.close()
    assert [one.payload for one in read(tmp_path)] == [b'{"url":"wss://ws.example?token=***","again":"***"}']


NO_ROOM = """
import os, resource, sys
from pathlib import Path
from app.clock import LiveClock
from app.feed.tape import Tape
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
clock = LiveClock()
tape = Tape(Path(sys.argv[1]), 10_000_000, clock)
for number in range(100):
    tape.write("finnhub", "socket", "", b"%d " % number + os.urandom(1000), clock.now())
    tape.flush()
tape.close()
print(tape.ended)
"""


def test_a_disk_without_room_ends_the_tape_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_ROOM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"the tape in {tmp_path} ended: ")
    found = [int(one.payload.split(b" ")[0]) for one in read(tmp_path)]
    assert found == list(range(len(found)))
    assert 18 <= len(found) <= 20
    assert size(tmp_path) == 20_000


def test_a_place_that_cannot_be_written_ends_the_tape(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    record = Recording(tmp_path / "file")
    record.noise(3)
    assert record.tape.ended.startswith(f"the tape in {tmp_path / 'file'} ended: ")


KILLED = """
import sys
from datetime import timedelta
from pathlib import Path
from app.clock import LiveClock
from app.feed.tape import Tape
clock = LiveClock()
tape = Tape(Path(sys.argv[1]), 10_000_000, clock)
number = 0
while True:
    tape.write("finnhub", "socket", "", b"%d" % number, clock.now())
    number += 1
    if number == 20_000:
        tape.flush()
        print("flushed", flush=True)
"""


def test_a_killed_process_leaves_a_tape_that_can_be_read_up_to_its_last_flush(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushed\n"
        process.send_signal(signal.SIGKILL)
    numbers = [int(one.payload) for one in read(tmp_path)]
    assert len(numbers) >= 20_000
    assert numbers == list(range(len(numbers)))
    record = Recording(tmp_path)
    record.write(b"-1")
    record.tape.close()
    assert [int(one.payload) for one in read(tmp_path)] == [*numbers, -1]


def test_a_segment_that_is_cut_off_anywhere_gives_what_was_whole(tmp_path: Path) -> None:
    record = Recording(tmp_path)
    record.noise(6, size=100)
    record.tape.close()
    path = files(tmp_path)[0]
    whole = path.read_bytes()
    before = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = list(read(tmp_path))
        assert found == record.written[: len(found)]
        assert len(found) >= before
        before = len(found)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"x" * 100, id="not gzip"),
        pytest.param(gzip.compress(b"something else"), id="of something else"),
        pytest.param(gzip.compress(b"tape 1\n" + b"\xff" * 50), id="an impossible length"),
        pytest.param(gzip.compress(b"tape 1\n\x00\x00\x00\x02{}"), id="not what arrived"),
        pytest.param(gzip.compress(b"tape 1\n") + b"more", id="more behind its end"),
    ],
)
def test_what_is_no_tape_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tape-000001-20260505T120000Z.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"20260505T120000Z\.gz is no tape"):
        list(read(tmp_path))


def test_a_damaged_segment_is_named_after_what_was_before_it(tmp_path: Path) -> None:
    record = Recording(tmp_path)
    record.noise(3)
    record.wait(HOUR)
    record.noise(3)
    record.tape.close()
    last = files(tmp_path)[1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)
    found: list[Arrived] = []
    with pytest.raises(InputError, match=last.name):
        for one in read(tmp_path):
            found.append(one)
    assert found[:3] == record.written[:3]
    assert len(found) < 6


def test_a_directory_without_a_tape_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "never"):
        with pytest.raises(InputError, match="holds no tape"):
            list(read(place))
