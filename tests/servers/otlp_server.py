"""A stand-in for an OpenTelemetry collector: logs by HTTP with protobuf, and by gRPC, on two ports.

`fields` has the record's body, severity and attributes, each under its name in OTLP; `tags` are the attributes of its
resource; `to` has the transport and the scope."""

import math
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

import common
import protobuf

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


Status, RetryInfo = protobuf.classes(
    "google.rpc",
    {
        "Any": [(1, "type_url", "one", "string"), (2, "value", "one", "bytes")],
        "Status": [(1, "code", "one", "int32"), (2, "message", "one", "string"), (3, "details", "many", "Any")],
        "Duration": [(1, "seconds", "one", "int64"), (2, "nanos", "one", "int32")],
        "RetryInfo": [(1, "retry_delay", "one", "Duration")],
    },
    "Status",
    "RetryInfo",
)


class Otlp(common.Server):
    def add_arguments(self, parser):
        common.Credentials.add_arguments(parser)
        parser.add_argument("--grpc-port", type=int, default=0)
        parser.add_argument("--poison-whole", action="store_true", help="poison refuses the request, not the record")
        parser.add_argument("--max-message", type=int, default=4 << 20, metavar="BYTES", help="of gRPC")

    def refused(self, status, text, is_mistake=True):
        code = CODES.get(status, grpc.StatusCode.UNKNOWN).value[0]
        body = Status(code=code, message=text).SerializeToString()
        headers = {"Content-Type": "application/x-protobuf"}
        return common.Refused(status, body, headers, text if is_mistake else None)

    def failure(self, code):
        return self.refused(int(code), "on demand", is_mistake=False)

    def answer(self, request):
        is_grpc = request.path == "/%s/Export" % SERVICE
        if not is_grpc and request.path != "/v1/logs":
            raise self.refused(404, "no such path")
        if request.method != "POST":
            raise self.refused(405, "use POST")
        if not common.Credentials.accept(self.args, request):
            raise self.refused(401, "unauthorized")
        raw = request.wire
        if not is_grpc:
            if request.media_type() != "application/x-protobuf":
                raise self.refused(415, "Content-Type %r" % request.headers.get("content-type"))
            try:
                raw = request.body()
            except ValueError as error:
                raise self.refused(400, str(error))
        try:
            export = protobuf.read(ExportLogsServiceRequest, raw)
        except ValueError as error:
            raise self.refused(400, str(error))
        return self.export("grpc" if is_grpc else "http", export)

    def export(self, transport, export):
        events, rejected = [], 0
        for resource in export.resource_logs:
            tags = self.attributes(resource.resource.attributes)
            for scope in resource.scope_logs:
                to = {"transport": transport, "scope": scope.scope.name}
                for record in scope.log_records:
                    fields = self.fields(record)
                    if self.is_poisoned(fields):
                        rejected += 1
                    else:
                        events.append(common.event(to, fields, record.time_unix_nano or None, tags))
        if not events and not rejected:
            raise self.refused(400, "no records")
        answer = ExportLogsServiceResponse()
        if rejected:
            if self.args.poison_whole:
                raise self.refused(400, "a record has " + self.args.poison, is_mistake=False)
            answer.partial_success.rejected_log_records = rejected
            answer.partial_success.error_message = "a record has " + self.args.poison
        headers = {"Content-Type": "application/x-protobuf"}
        return common.Response(200, answer.SerializeToString(), headers, events)

    def fields(self, record):
        if len(record.trace_id) not in (0, 16) or len(record.span_id) not in (0, 8):
            raise self.refused(400, "a trace_id or a span_id of a wrong length")
        if not 0 <= record.severity_number <= 24:
            raise self.refused(400, "severity_number %d" % record.severity_number)
        fields = {"attributes": self.attributes(record.attributes)}
        if record.HasField("body"):
            fields["body"] = self.value(record.body)
        if record.severity_text:
            fields["severity_text"] = record.severity_text
        if record.severity_number:
            fields["severity_number"] = record.severity_number
        if record.observed_time_unix_nano:
            fields["observed_time_unix_nano"] = record.observed_time_unix_nano
        return fields

    def attributes(self, pairs):
        made = {}
        for pair in pairs:
            if not pair.key or pair.key in made:
                raise self.refused(400, "key %r, empty or twice" % pair.key)
            made[pair.key] = self.value(pair.value)
        return made

    def value(self, value):
        kind = value.WhichOneof("value")
        if kind is None:
            return None
        inner = getattr(value, kind)
        if kind == "array_value":
            return [self.value(one) for one in inner.values]
        if kind == "kvlist_value":
            return self.attributes(inner.values)
        if kind == "bytes_value":
            return common.text(inner)
        if kind == "double_value" and not math.isfinite(inner):
            return str(inner)
        return inner

    def start_more(self):
        options = [("grpc.max_receive_message_length", self.args.max_message), ("grpc.so_reuseport", 0)]
        server = grpc.server(ThreadPoolExecutor(32), options=options)
        # As bytes: what is in them is for `answer` to say, as it is for HTTP.
        export = grpc.unary_unary_rpc_method_handler(self.call)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Export": export})])
        address = "127.0.0.1:%d" % self.args.grpc_port
        if self.args.tls:
            certificate, key = [open(path, "rb").read() for path in self.args.tls]
            ca = open(self.args.client_ca, "rb").read() if self.args.client_ca else None
            credentials = grpc.ssl_server_credentials([(key, certificate)], ca, ca is not None)
            port = server.add_secure_port(address, credentials)
        else:
            port = server.add_insecure_port(address)
        server.start()
        # Kept: it would end with what holds it.
        self.grpc = server
        return [port]

    def call(self, raw, context):
        headers = {k: v if isinstance(v, str) else v.hex() for k, v in context.invocation_metadata()}
        answer = self.respond(common.Request("POST", "/%s/Export" % SERVICE, headers, raw))
        if answer.status == 200:
            return answer.body
        code = CODES.get(answer.status, grpc.StatusCode.UNKNOWN)
        status = Status.FromString(answer.body)
        if "Retry-After" in answer.headers:
            info = RetryInfo()
            info.retry_delay.seconds = int(answer.headers["Retry-After"])
            status.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info.SerializeToString())
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(code, status.message)


if __name__ == "__main__":
    Otlp().run()
