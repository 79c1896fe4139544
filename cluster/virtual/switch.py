"""An Ethernet switch between virtual nodes, with delay, loss, rates and cuts.

    switch.py SOCKET NODES

Makes a TAP device a node, port1 to portN, in the namespace it runs in; they may be moved to others. Takes a command
a connection on the unix socket: `delay N 5ms`, `rate N 200mbit`, `loss N 0.01`, `cut N [M]`, `heal N [M]`. Delay and loss
are of what node N sends, rates of both directions. For kernels without netem.
"""

import fcntl
import heapq
import os
import random
import selectors
import socket
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
QUEUE_BYTES = 16 << 20


class Port:
    def __init__(self, node):
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        name = struct.pack("16sH22x", f"port{node}".encode(), IFF_TAP | IFF_NO_PI)
        fcntl.ioctl(self.device, TUNSETIFF, name)
        self.delay = self.rate = self.loss = 0.0
        self.is_cut = False
        self.sent_until = self.received_until = 0.0
        self.waiting = 0


class Switch:
    def __init__(self, nodes):
        self.ports = {node: Port(node) for node in range(1, nodes + 1)}
        self.cut_pairs = set()
        self.places = {}
        self.queue = []
        self.count = 0
        self.random = random.Random(1)

    def frame(self, source, frame):
        """Queues a frame for each port that it goes to."""
        sender, now = self.ports[source], time.monotonic()
        self.places[frame[6:12]] = source
        known = None if frame[0] & 1 else self.places.get(frame[:6])
        targets = [known] if known else [node for node in self.ports if node != source]
        if sender.is_cut or self.random.random() < sender.loss:
            return
        at = max(now, sender.sent_until) + self.time_of(sender, frame)
        sender.sent_until = at
        for target in targets:
            port = self.ports[target]
            is_cut = port.is_cut or frozenset((source, target)) in self.cut_pairs
            if target == source or is_cut or port.waiting > QUEUE_BYTES:
                continue
            due = max(at + sender.delay, port.received_until) + self.time_of(port, frame)
            port.received_until = due
            port.waiting += len(frame)
            self.count += 1
            heapq.heappush(self.queue, (due, self.count, target, frame))

    @staticmethod
    def time_of(port, frame):
        return len(frame) * 8 / port.rate if port.rate else 0.0

    def deliver(self):
        """Delivers what is due, and returns the seconds until the next frame is."""
        while self.queue:
            due = self.queue[0][0] - time.monotonic()
            if due > 0:
                return due
            _, _, target, frame = heapq.heappop(self.queue)
            port = self.ports[target]
            port.waiting -= len(frame)
            try:
                os.write(port.device, frame)
            except OSError:
                pass  # the interface is down, or its queue is full: a lost frame
        return None

    def command(self, words):
        verb, nodes = words[0], [int(word) for word in words[1:] if word.isdigit()]
        port = self.ports[int(words[1])]
        if verb == "delay":
            port.delay = seconds(words[2])
        elif verb == "rate":
            port.rate = bits(words[2])
        elif verb == "loss":
            port.loss = min(max(float(words[2]), 0.0), 1.0)
        elif verb in ("cut", "heal") and len(nodes) == 2:
            pair = {frozenset(nodes)}
            self.cut_pairs = self.cut_pairs | pair if verb == "cut" else self.cut_pairs - pair
        elif verb in ("cut", "heal"):
            port.is_cut = verb == "cut"
        else:
            raise ValueError(f"unknown command {verb}")


def number(text, units):
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(digits) * units[text[len(digits):]]


def seconds(text):
    return number(text, {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6})


def bits(text):
    return number(text, {"": 1.0, "bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9})


def main():
    path, switch = sys.argv[1], Switch(int(sys.argv[2]))
    selector = selectors.DefaultSelector()
    for node, port in switch.ports.items():
        selector.register(port.device, selectors.EVENT_READ, node)
    listener = socket.socket(socket.AF_UNIX)
    # the name appears when the switch is ready
    listener.bind(path + ".new")
    listener.listen()
    os.rename(path + ".new", path)
    selector.register(listener, selectors.EVENT_READ, 0)
    while True:
        for key, _ in selector.select(switch.deliver()):
            if key.data:
                read(switch, key.data)
            else:
                answer(switch, listener)


def read(switch, node):
    device = switch.ports[node].device
    for _ in range(64):
        try:
            frame = os.read(device, 65536)
        except OSError:
            return  # nothing more, or the interface is down
        if len(frame) >= 14:
            switch.frame(node, frame)


def answer(switch, listener):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(1.0)
        try:
            switch.command(line(connection).split())
            says = "ok"
        except (OSError, KeyError, IndexError, ValueError) as error:
            says = f"{type(error).__name__}: {error}"
        try:
            connection.sendall(f"{says}\n".encode())
        except OSError:
            pass  # nobody waits for the answer


def line(connection):
    text = b""
    while not text.endswith(b"\n"):
        part = connection.recv(1024)
        if not part:
            break
        text += part
    return text.decode()


if __name__ == "__main__":
    main()
