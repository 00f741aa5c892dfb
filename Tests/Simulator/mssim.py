"""A TPM simulator that speaks the protocol of the TCG's reference code, as a child of ours.

The program is `tpm-simulator` on the PATH. It keeps its NV in the file NVChip of its working directory,
which is a link to the state file that swtpm would have there.
"""

import os
import random
import shutil
import socket
import struct
import time

POWER_ON, SEND_COMMAND, NV_ON = 1, 8, 11


def prepare(state):
    os.chdir(state)
    if not os.path.lexists("NVChip"):
        os.symlink("tpm2-00.permall", "NVChip")


def program():
    found = shutil.which("tpm-simulator")
    if not found:
        raise SystemExit("there is no tpm-simulator on the PATH")
    return found


def free_port():
    """Two neighbours that nobody listens on; another process may still be quicker."""
    while True:
        port = random.randrange(20000, 32000, 2)
        try:
            for number in (port, port + 1):
                probe = socket.socket()
                probe.bind(("0.0.0.0", number))
                probe.close()
            return port
        except OSError:
            continue


def connect(port):
    for _ in range(2000):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.005)
    raise SystemExit("the simulator does not listen")


def receive(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class Simulator:
    def __init__(self, port):
        self.platform = connect(port + 1)
        self.commands = connect(port)
        for stream in (self.platform, self.commands):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for signal in (POWER_ON, NV_ON):
            self.platform.sendall(struct.pack(">I", signal))
            receive(self.platform, 4)

    def exchange(self, command):
        self.commands.sendall(struct.pack(">IBI", SEND_COMMAND, 0, len(command)) + command)
        size = struct.unpack(">I", receive(self.commands, 4))[0]
        response = receive(self.commands, size)
        receive(self.commands, 4)
        return response

    def startup(self):
        code = self.exchange(bytes.fromhex("80010000000c000001440000"))[6:10]
        if code not in (b"\0\0\0\0", b"\0\0\1\0"):
            raise SystemExit("TPM2_Startup: 0x" + code.hex())
