"""A slow link in user space, for machines whose kernel lacks netem.

The link has two tun devices, one of them in a network namespace. It has a rate, a one-way delay and a drop-tail queue of 100 ms. It needs
root on Linux. Both ends are on this machine, in the network that RFC 2544 reserves for benchmarks.
"""

import argparse
import collections
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NETWORK = f"198.18.{os.getpid() % 256}"  # benchmarks that run at the same time have different networks
FAR = f"{_NETWORK}.2"

_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_QUEUE = 0.1  # seconds
_MTU = 9000


@dataclass(frozen=True, slots=True)
class Link:
    """A link's speed and delay, which are the same in each direction."""

    rate: float
    """The speed in Mbit/s."""
    delay: float
    """The delay in milliseconds, one way."""

    def __str__(self) -> str:
        return f"{self.rate:g} Mbit/s, {self.delay:g} ms each way"


def why_not() -> str | None:
    """Return why this machine can't have a slow link; None if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    if not _TUN.exists():
        return f"there is no {_TUN}"
    if not shutil.which("ip"):
        return "there is no program ip (iproute2)"
    return None


@contextmanager
def slow_link(link: Link) -> Iterator[Sequence[str]]:
    """Make a link to :data:`FAR`, which lies in its own network namespace. Yield the words that make a command run there.

    Raise RuntimeError if the link doesn't come up, and subprocess.CalledProcessError if ``ip`` fails.
    """
    namespace = f"bench{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        # A separate process doesn't wait for the interpreter lock of this process. It ends when its input ends.
        command = [sys.executable, "-m", "benchmarks.slow_link", namespace, _NETWORK, str(link.rate), str(link.delay)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("the slow link did not come up")
            yield ("ip", "netns", "exec", namespace)
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


def _open_tun(name: str) -> int:
    device = os.open(_TUN, os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22s", name.encode(), _IFF_TUN | _IFF_NO_PI, b""))
    return device


def _forward(source: int, target: int, delay: float, bytes_per_second: float) -> None:
    queue: collections.deque[tuple[float, bytes]] = collections.deque()
    ready = threading.Condition()

    def receive() -> None:
        sent_at = 0.0
        while True:
            packet = os.read(source, 65536)
            now = time.monotonic()
            sent = max(sent_at, now) + len(packet) / bytes_per_second
            if sent - now > _QUEUE:
                continue  # the queue is full: drop the packet
            sent_at = sent
            with ready:
                queue.append((sent + delay, packet))
                ready.notify()

    def send() -> None:
        while True:
            with ready:
                while not queue:
                    ready.wait()
                due, packet = queue.popleft()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            os.write(target, packet)

    for work in (receive, send):
        threading.Thread(target=work, daemon=True).start()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("namespace")
    parser.add_argument("network", help="the first three numbers of the addresses")
    parser.add_argument("rate", type=float, help="Mbit/s")
    parser.add_argument("delay", type=float, help="milliseconds, one way")
    options = parser.parse_args()
    namespace = options.namespace
    names = f"near{os.getpid()}", f"far{os.getpid()}"
    near, far = (_open_tun(name) for name in names)
    inside = ("ip", "netns", "exec", namespace)
    subprocess.run(["ip", "link", "set", names[1], "netns", namespace], check=True)
    for words, name, address in (((), names[0], f"{options.network}.1"), (inside, names[1], f"{options.network}.2")):
        subprocess.run([*words, "ip", "addr", "add", f"{address}/30", "dev", name], check=True)
        subprocess.run([*words, "ip", "link", "set", name, "mtu", str(_MTU), "txqueuelen", "2000", "up"], check=True)
    for source, target in ((near, far), (far, near)):
        _forward(source, target, options.delay / 1000, options.rate * 1e6 / 8)
    print("up", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main()
