import gzip
import os
import unittest

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

from otlp_server import RetryInfo, Status
from testing import Case

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def export(numbers):
    made = ExportLogsServiceRequest()
    resource = made.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_logs.add()
    scope.scope.name = "weir"
    for n in numbers:
        record = scope.log_records.add(time_unix_nano=1700000000 * 10**9 + n, severity_text="INFO", severity_number=9)
        record.body.string_value = "é %d" % n
        record.attributes.add(key="seq").value.int_value = n
    return made


class Otlp(Case):
    kind = "otlp"

    def numbers(self, server):
        return [event["fields"]["attributes"]["seq"] for event in server.events()]

    def post(self, server, made, headers=PROTOBUF, path="/v1/logs"):
        body = made if isinstance(made, bytes) else made.SerializeToString()
        status, answer = server.send(path, body, headers)
        if status == 200:
            return ExportLogsServiceResponse.FromString(answer)
        return status, Status.FromString(answer).code

    def stub(self, server, credentials=None):
        address = "localhost:%d" % server.ports[1]
        options = [("grpc.enable_http_proxy", 0)]
        if credentials is None:
            channel = grpc.insecure_channel(address, options)
        else:
            channel = grpc.secure_channel(address, credentials, options)
        self.addCleanup(channel.close)
        return LogsServiceStub(channel)

    def test_both_transports_are_stored_in_their_order(self):
        server = self.server()
        self.assertEqual(self.post(server, export([0, 1])), ExportLogsServiceResponse())
        zipped = dict(PROTOBUF, **{"Content-Encoding": "gzip"})
        made = gzip.compress(export([2]).SerializeToString())
        self.assertEqual(self.post(server, made, zipped), ExportLogsServiceResponse())
        stub = self.stub(server)
        self.assertEqual(stub.Export(export([3])), ExportLogsServiceResponse())
        self.assertEqual(stub.Export(export([4]), compression=grpc.Compression.Gzip), ExportLogsServiceResponse())
        self.assertEqual((self.numbers(server), server.errors()), ([0, 1, 2, 3, 4], []))
        event = {
            "to": {"transport": "http", "scope": "weir"},
            "fields": {"attributes": {"seq": 1}, "body": "é 1", "severity_text": "INFO", "severity_number": 9},
            "time_ns": 1700000000000000001,
            "tags": {"service.name": "shop"},
        }
        self.assertEqual(server.events()[1], event)
        self.assertEqual([event["to"]["transport"] for event in server.events()], ["http"] * 3 + ["grpc"] * 2)

    def test_values_of_all_kinds(self):
        server = self.server()
        made = export([])
        record = made.resource_logs[0].scope_logs[0].log_records.add()
        record.body.kvlist_value.values.add(key="a").value.array_value.values.add().bool_value = True
        record.attributes.add(key="d").value.double_value = 0.5
        record.attributes.add(key="b").value.bytes_value = b"\xff"
        record.attributes.add(key="n")
        self.post(server, made)
        event = server.events()[0]
        self.assertEqual(event["fields"], {"attributes": {"d": 0.5, "b": "\\xff", "n": None}, "body": {"a": [True]}})
        self.assertEqual(event["time_ns"], None)

    def test_what_breaks_the_protocol_is_refused_and_recorded(self):
        server = self.server()
        raw = export([1]).SerializeToString()
        twice, trace = export([1]), export([1])
        twice.resource_logs[0].scope_logs[0].log_records[0].attributes.add(key="seq")
        trace.resource_logs[0].scope_logs[0].log_records[0].trace_id = b"short"
        for body in [raw[:-1], raw + b"\x78\x01", export([]), b"", twice, trace]:
            self.assertEqual(self.post(server, body), (400, 3))
        self.assertEqual(self.post(server, raw, dict(PROTOBUF, **{"Content-Encoding": "gzip"})), (400, 3))
        self.assertEqual(self.post(server, b"{}", {"Content-Type": "application/json"})[0], 415)
        self.assertEqual(self.post(server, raw, path="/v1/traces")[0], 404)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub(server).Export(twice)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual((server.events(), len(server.errors())), ([], 10))

    def test_poison_is_rejected_alone_or_whole(self):
        server = self.server("--poison", "é 2")
        for answer in [self.post(server, export([1, 2, 3])), self.stub(server).Export(export([1, 2, 3]))]:
            self.assertEqual(answer.partial_success.rejected_log_records, 1)
        self.assertEqual((self.numbers(server), server.errors()), ([1, 3, 1, 3], []))
        server = self.server("--poison", "é 2", "--poison-whole")
        self.assertEqual(self.post(server, export([1, 2, 3])), (400, 3))
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub(server).Export(export([1, 2, 3]))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual((server.events(), server.errors()), ([], []))

    def test_failures_on_demand_say_when_to_come_again(self):
        server = self.server("--fail", "503:2", "--retry-after", "7")
        self.assertEqual(self.post(server, export([1])), (503, 14))
        self.assertEqual(server.headers["Retry-After"], "7")
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub(server).Export(export([1]))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        details = dict(caught.exception.trailing_metadata())["grpc-status-details-bin"]
        self.assertEqual(RetryInfo.FromString(Status.FromString(details).details[0].value).retry_delay.seconds, 7)
        self.assertEqual(server.errors(), [])

    def test_a_message_that_is_too_long(self):
        server = self.server()
        made = export([1])
        made.resource_logs[0].scope_logs[0].log_records[0].body.string_value = "x" * (4 << 20)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub(server).Export(made)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def test_its_ports_are_kept(self):
        server = self.server()
        ports = server.ports
        server.close()
        server.command += ["--grpc-port", str(ports[1])]
        server.start()
        self.assertEqual(server.ports, ports)
        self.stub(server).Export(export([1]))

    @unittest.skipUnless("WEIR_TEST_CERTIFICATES" in os.environ, "whoever makes certificates sets where they are")
    def test_grpc_with_client_certificates(self):
        ca, cert, key, client, client_key = (
            os.path.join(os.environ["WEIR_TEST_CERTIFICATES"], name)
            for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"]
        )
        server = self.server("--tls", cert, key, "--client-ca", ca)
        read = [open(path, "rb") for path in (ca, client_key, client)]
        pems = [file.read() for file in read]
        [file.close() for file in read]
        self.stub(server, grpc.ssl_channel_credentials(*pems)).Export(export([1]))
        with self.assertRaises(grpc.RpcError):
            self.stub(server, grpc.ssl_channel_credentials(pems[0])).Export(export([2]))
        self.assertEqual((self.numbers(server), server.errors()), ([1], []))


if __name__ == "__main__":
    unittest.main()
