"""A stand-in for a Kafka cluster: the one that librdkafka has for its own tests, which is in memory.

    kafka_server.py --out FILE              runs it; what it gets is read back into FILE while it runs
    kafka_server.py read --bootstrap HOST:PORT --topic TOPIC --out FILE --count N    reads back so many messages

`to` has topic, partition, offset and key; `fields` is the value, if it is a JSON object, and else `{"value": …}`; `tags`
are the headers. Messages of one partition are in order. The cluster keeps 5 MiB of a partition: what is faster than it
can be read back is lost, and recorded. It has no TLS and no SASL.

Commands on standard input, each answered by `done`: `down BROKER`, `up BROKER`, `fail CODE COUNT` (of requests to
produce), `rtt MILLISECONDS`."""

import argparse
import ctypes
import glob
import json
import os
import signal
import sys
import threading
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import common

PRODUCE = 0


def library():
    """The librdkafka that confluent_kafka brings, by its own functions."""
    home = os.path.dirname(os.path.dirname(confluent_kafka.__file__))
    (path,) = glob.glob(os.path.join(home, "confluent_kafka.libs", "librdkafka*"))
    made = ctypes.CDLL(path)
    for name in ["rd_kafka_new", "rd_kafka_mock_cluster_new"]:
        getattr(made, name).restype = ctypes.c_void_p
    made.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return made


class Cluster:
    def __init__(self, brokers):
        self.library = library()
        error = ctypes.create_string_buffer(512)
        client = ctypes.c_void_p(self.library.rd_kafka_new(0, None, error, ctypes.c_size_t(512)))
        if not client:
            sys.exit(error.value.decode())
        self.cluster = ctypes.c_void_p(self.library.rd_kafka_mock_cluster_new(client, brokers))
        self.brokers = brokers
        self.bootstrap = self.library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()

    def call(self, name, *args):
        error = getattr(self.library, "rd_kafka_mock_" + name)(self.cluster, *args)
        if error:
            raise ValueError("%s%r: %s" % (name, args, KafkaError(error)))

    def create(self, topic, partitions):
        self.call("topic_create", topic.encode(), partitions, min(self.brokers, 3))

    def fail(self, code, count):
        """Answers so many requests to produce so. A code is a number, or a name of KafkaError's."""
        number = int(code) if code.lstrip("-").isdigit() else getattr(KafkaError, code)
        errors = (ctypes.c_int * count)(*[number] * count)
        self.library.rd_kafka_mock_push_request_errors_array(
            self.cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(count), errors
        )

    def command(self, line):
        name, *args = line.split()
        if name in ("down", "up"):
            self.call("broker_set_" + name, int(args[0]))
        elif name == "fail":
            self.fail(args[0], int(args[1]))
        elif name == "rtt":
            for broker in range(1, self.brokers + 1):
                self.call("broker_set_rtt", broker, int(args[0]))
        else:
            raise ValueError("no such command: " + line)


class Reader:
    """Reads all messages of some topics, or of all, from the first on."""

    def __init__(self, bootstrap, files, topics=None):
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "fetch.wait.max.ms": 20,
            "topic.metadata.refresh.interval.ms": 500,
            "reconnect.backoff.max.ms": 100,
            "log_level": 0,
        }
        self.consumer = Consumer(settings)
        self.files = files
        self.topics = topics
        # The next offset of each partition.
        self.next = {}
        self.looked = 0.0

    def step(self):
        """Stores what comes soon; how much it was."""
        if time.monotonic() - self.looked > 0.1:
            self.look()
        if not self.next:
            time.sleep(0.02)
            return 0
        lines = []
        for message in self.consumer.consume(5000, 0.05):
            if message.error():
                # A broker that is away comes again; an offset that is gone does not.
                if message.error().code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    self.files.mistake("messages are lost: %s" % message.error())
                continue
            lines.append(self.line(message))
        if lines:
            self.files.store(lines)
        return len(lines)

    def look(self):
        """Finds new topics."""
        self.looked = time.monotonic()
        try:
            found = self.consumer.list_topics(timeout=5).topics
        except KafkaException:
            return
        for topic in found.values():
            if self.topics is not None and topic.topic not in self.topics:
                continue
            new = [number for number in topic.partitions if (topic.topic, number) not in self.next]
            if new and not topic.error:
                self.next.update({(topic.topic, number): 0 for number in new})
                self.consumer.incremental_assign([TopicPartition(topic.topic, number, 0) for number in new])

    def line(self, message):
        place = (message.topic(), message.partition())
        if message.offset() != self.next[place]:
            self.files.mistake("messages are lost: %s has %d after %d" % (place, message.offset(), self.next[place] - 1))
        self.next[place] = message.offset() + 1
        key, value = message.key(), message.value()
        to = {"topic": place[0], "partition": place[1], "offset": message.offset()}
        to["key"] = None if key is None else common.text(key)
        kind, milliseconds = message.timestamp()
        tags = {name: None if value is None else common.text(value) for name, value in message.headers() or []}
        try:
            fields = common.strict_json((value or b"").decode())
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            fields = {"value": None if value is None else common.text(value)}
        return common.event(to, fields, milliseconds * 10**6 if kind else None, tags)


def serve():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="ignored: the ports are the cluster's choice")
    parser.add_argument("--out", required=True)
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--topic", action="append", default=[], metavar="NAME[:PARTITIONS]", help="others make themselves")
    parser.add_argument("--fail", action="append", default=[], metavar="CODE:COUNT", help="of requests to produce")
    parser.add_argument("--rtt", type=int, default=0, metavar="MILLISECONDS")
    parser.add_argument("--tied", action="store_true", help="end with standard input")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    files = common.Files(args.out)
    cluster = Cluster(args.brokers)
    for topic in args.topic:
        name, _, partitions = topic.partition(":")
        cluster.create(name, int(partitions or 1))
    if args.rtt:
        cluster.command("rtt %d" % args.rtt)
    for fail in args.fail:
        code, _, count = fail.rpartition(":")
        cluster.fail(code, int(count))
    reader = Reader(cluster.bootstrap, files)
    threading.Thread(target=read_for_ever, args=(reader,), daemon=True).start()
    common.ready(cluster.bootstrap)
    threading.Thread(target=obey, args=(cluster, args.tied), daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    files.lock.acquire()
    os._exit(0)


def read_for_ever(reader):
    while True:
        reader.step()


def obey(cluster, is_tied):
    for line in sys.stdin:
        try:
            cluster.command(line)
            print("done", flush=True)
        except (ValueError, IndexError, AttributeError) as error:
            print("cannot: %s" % error, flush=True)
    if is_tied:
        os.kill(os.getpid(), signal.SIGTERM)


def read():
    parser = argparse.ArgumentParser(prog="kafka_server.py read")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    args = parser.parse_args(sys.argv[2:])
    reader = Reader(args.bootstrap, common.Files(args.out), [args.topic])
    count, deadline = 0, time.monotonic() + args.timeout
    while count < args.count:
        if time.monotonic() > deadline:
            sys.exit("only %d messages of %d after %g seconds" % (count, args.count, args.timeout))
        count += reader.step()
    print(json.dumps({"count": count}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        read()
    else:
        serve()
