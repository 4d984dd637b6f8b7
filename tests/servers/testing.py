"""What the servers' own tests share: a server as a process, and a client."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))


class Running:
    """A server that runs until it is closed."""

    def __init__(self, case, kind, *args):
        directory = tempfile.TemporaryDirectory()
        case.addCleanup(directory.cleanup)
        self.out = os.path.join(directory.name, "out")
        self.command = [sys.executable, os.path.join(HERE, kind + "_server.py"), "--out", self.out, "--tied", *args]
        self.ports = [0]
        self.start()
        case.addCleanup(self.close)

    def start(self):
        command = self.command + ["--port", str(self.ports[0])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.said = line[len("listening on ") :].strip()
        if ":" not in self.said:
            self.ports = [int(port) for port in self.said.split()]

    @property
    def port(self):
        return self.ports[0]

    def close(self, how=signal.SIGTERM):
        """Ends it; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.returncode

    def tell(self, command):
        """The answer to a command."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def events(self):
        return [json.loads(line) for line in self.lines("")]

    def requests(self):
        return [json.loads(line) for line in self.lines(".requests")]

    def errors(self):
        return self.lines(".errors")

    def lines(self, suffix):
        with open(self.out + suffix, encoding="utf-8") as file:
            return file.read().split("\n")[:-1]

    def send(self, path, body, headers=None, method="POST", tls=None):
        """The status and the body of an answer, on a connection of its own."""
        if tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        else:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=tls)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            self.headers = response.headers
            return response.status, response.read()
        finally:
            connection.close()


def trusting(ca, certificate=None, key=None):
    """TLS of a client."""
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


class Case(unittest.TestCase):
    maxDiff = None
    kind = None

    def server(self, *args):
        return Running(self, self.kind, *args)
