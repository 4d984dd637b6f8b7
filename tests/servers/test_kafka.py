import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

from confluent_kafka import KafkaError, Producer

import common
from kafka_server import Reader
from testing import HERE, Case


class Kafka(Case):
    kind = "kafka"

    def producer(self, server, **settings):
        settings = {name.replace("_", "."): value for name, value in settings.items()}
        return Producer({"bootstrap.servers": server.said, "log_level": 0, **settings})

    def produce(self, producer, numbers, topic="logs", **how):
        """What became of each."""
        results = {}

        def done(error, message):
            results[json.loads(message.value())["seq"]] = error.code() if error else None

        for n in numbers:
            value = json.dumps({"seq": n, "content": "é %d" % n}).encode()
            producer.produce(topic, value, on_delivery=done, **how)
            producer.poll(0)
        self.assertEqual(producer.flush(30), 0)
        return results

    def numbers(self, server):
        return sorted(event["fields"]["seq"] for event in server.events())

    def wait_for(self, server, count):
        deadline = time.time() + 30
        while len(server.lines("")) < count:
            self.assertLess(time.time(), deadline, (len(server.lines("")), server.errors()))
            time.sleep(0.01)

    def test_all_is_read_back_from_each_partition_in_order(self):
        server = self.server("--topic", "logs:3")
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"]:
            self.produce(self.producer(server, compression_type=compression, acks="all"), range(100), key=b"k")
        self.produce(self.producer(server), range(100), partition=1, headers={"a": b"b"}, timestamp=1700000000123)
        self.produce(self.producer(server, enable_idempotence=True), range(100), topic="other")
        self.wait_for(server, 700)
        self.assertEqual((self.numbers(server), server.errors()), (sorted(list(range(100)) * 7), []))
        offsets = {}
        for event in server.events():
            to = event["to"]
            place = (to["topic"], to["partition"])
            self.assertEqual(to["offset"], offsets.get(place, -1) + 1)
            offsets[place] = to["offset"]
        last = [event for event in server.events() if event["tags"]][-1]
        self.assertEqual(last["tags"], {"a": "b"})
        self.assertEqual(last["fields"], {"seq": 99, "content": "é 99"})
        self.assertEqual((last["to"]["partition"], last["to"]["key"], last["time_ns"]), (1, None, 1700000000123000000))
        keyed = {event["to"]["partition"] for event in server.events() if event["to"]["key"] == "k"}
        self.assertEqual(len(keyed), 1)
        self.assertEqual(server.close(), 0)

    def test_reading_back_by_itself(self):
        server = self.server("--brokers", "1", "--topic", "logs:2")
        self.produce(self.producer(server), range(50))
        with tempfile.TemporaryDirectory() as directory:
            out = os.path.join(directory, "out")
            script = [sys.executable, os.path.join(HERE, "kafka_server.py"), "read", "--bootstrap", server.said]
            script += ["--topic", "logs", "--out", out]
            subprocess.run(script + ["--count", "50"], check=True, stdout=subprocess.DEVNULL)
            with open(out, encoding="utf-8") as file:
                self.assertEqual(sorted(json.loads(line)["fields"]["seq"] for line in file), list(range(50)))
            run = subprocess.run(script + ["--count", "51", "--timeout", "1"], stderr=subprocess.PIPE, text=True)
            self.assertEqual(run.stderr, "only 50 messages of 51 after 1 seconds\n")

    def test_failures_on_demand(self):
        server = self.server("--topic", "logs", "--fail", "NOT_LEADER_FOR_PARTITION:2")
        self.assertEqual(self.produce(self.producer(server, retry_backoff_ms=10), [1]), {1: None})
        self.assertEqual(server.tell("fail MSG_SIZE_TOO_LARGE 1"), "done")
        self.assertEqual(self.produce(self.producer(server), [2]), {2: KafkaError.MSG_SIZE_TOO_LARGE})
        self.wait_for(server, 1)
        self.assertEqual((self.numbers(server), server.errors()), ([1], []))

    def test_brokers_go_down_and_up(self):
        server = self.server("--brokers", "1", "--topic", "logs")
        producer = self.producer(server, message_timeout_ms=500, reconnect_backoff_ms=10, reconnect_backoff_max_ms=20)
        self.assertEqual(self.produce(producer, [1]), {1: None})
        self.assertEqual(server.tell("down 1"), "done")
        self.assertEqual(self.produce(producer, [2]), {2: KafkaError._MSG_TIMED_OUT})
        self.assertEqual(server.tell("up 1"), "done")
        producer = self.producer(server)
        self.assertEqual(self.produce(producer, [3]), {3: None})
        self.wait_for(server, 2)
        self.assertEqual((self.numbers(server), server.errors()), ([1, 3], []))
        self.assertTrue(server.tell("dance").startswith("cannot: "))

    def test_what_it_does_not_keep_long_enough_is_recorded(self):
        server = self.server("--brokers", "1", "--topic", "logs")
        producer = self.producer(server)
        for _ in range(12):
            producer.produce("logs", b"x" * 900_000)
            producer.flush(30)
        with tempfile.TemporaryDirectory() as directory:
            reader = Reader(server.said, common.Files(os.path.join(directory, "out")), ["logs"])
            while not os.path.getsize(os.path.join(directory, "out.errors")):
                reader.step()
            with open(os.path.join(directory, "out.errors"), encoding="utf-8") as file:
                self.assertIn("messages are lost", file.read())


if __name__ == "__main__":
    unittest.main()
