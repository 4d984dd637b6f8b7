"""A stand-in for the Log Service: PutLogs, with both signatures.

`to` has project, logstore, topic and source, and the key of hash routing; `tags` are the LogTags, with `__pack_id__`."""

import hashlib
import hmac
import json
import re
import time
from base64 import b64encode
from email.utils import formatdate, parsedate_to_datetime
from datetime import datetime, timezone
from itertools import count
from urllib.parse import quote

import lz4.block
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

import common

# The statuses of the service's errors; of others it is 400.
STATUSES = {
    "Unauthorized": 401,
    "SignatureNotMatch": 401,
    "WriteQuotaExceed": 403,
    "ShardWriteQuotaExceed": 403,
    "ProjectForbidden": 403,
    "ProjectNotExist": 404,
    "LogStoreNotExist": 404,
    "MethodNotSupported": 405,
    "MissingContentLength": 411,
    "InvalidContentType": 415,
    "InternalServerError": 500,
    "ServerBusy": 503,
}
# How far a request's clock may be from the service's.
MOST_SKEW = 15 * 60
ROUTE = re.compile(r"/logstores/([^/]+)/shards/(lb|route)")
ADDRESS = re.compile(r"(\d{1,3}(\.\d{1,3}){3}|localhost|\[[0-9a-f:]+\])(:\d+)?")


def log_group():
    """The class of a LogGroup. Strings are bytes here: whether they are UTF-8 is for us to say."""
    file = descriptor_pb2.FileDescriptorProto(name="sls.proto", package="sls", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto

    def define(name, *fields):
        made = file.message_type.add(name=name)
        for number, field, label, kind in fields:
            labels = {"required": 2, "optional": 1, "repeated": 3}
            added = made.field.add(name=field, number=number, label=labels[label])
            if kind[0].isupper():
                added.type, added.type_name = kinds.TYPE_MESSAGE, ".sls." + kind
            else:
                added.type = getattr(kinds, "TYPE_" + kind.upper())

    pair = [(1, "Key", "required", "bytes"), (2, "Value", "required", "bytes")]
    define("Content", *pair)
    define("LogTag", *pair)
    define(
        "Log",
        (1, "Time", "required", "uint32"),
        (2, "Contents", "repeated", "Content"),
        (3, "values", "repeated", "bytes"),
        (4, "Time_ns", "optional", "fixed32"),
    )
    define(
        "LogGroup",
        (1, "Logs", "repeated", "Log"),
        (2, "Category", "optional", "bytes"),
        (3, "Topic", "optional", "bytes"),
        (4, "Source", "optional", "bytes"),
        (5, "MachineUUID", "optional", "bytes"),
        (6, "LogTags", "repeated", "LogTag"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sls.LogGroup"))


LogGroup = log_group()


def is_signed(name):
    """Whether a header goes into both signatures."""
    return name.startswith("x-acs-") or (name.startswith("x-log-") and not name.startswith("x-log-meta-"))


def signature_v1(secret, method, path, query, headers, without=()):
    """The signature by HMAC-SHA1. `query` has pairs, decoded."""
    lines = [method, headers.get("content-md5", ""), headers.get("content-type", ""), headers.get("date", "")]
    lines += ["%s:%s" % (k, headers[k].strip()) for k in sorted(headers) if is_signed(k) and k not in without]
    resource = path
    if query:
        resource += "?" + "&".join("%s=%s" % pair for pair in sorted(query))
    text = "\n".join(lines + [resource])
    return b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


def signature_v4(secret, region, method, path, query, headers, without=()):
    """The signature by SLS4-HMAC-SHA256; the body is in it by its hash, which is a header."""
    time_of_day = headers["x-log-date"]
    names = sorted(k for k in headers if (is_signed(k) or k in ("host", "content-type")) and k not in without)
    # Names are not encoded: so it is in the vendor's tests.
    pairs = "&".join(k + "=" + quote(v, safe="~") if v else k for k, v in sorted(query))
    canonical = [method, path, pairs]
    canonical += ["".join("%s:%s\n" % (k, headers[k].strip()) for k in names), ";".join(names)]
    canonical += [headers["x-log-content-sha256"]]
    scope = "%s/%s/sls/aliyun_v4_request" % (time_of_day[:8], region)
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = ("aliyun_v4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    to_sign = "\n".join(["SLS4-HMAC-SHA256", time_of_day, scope, digest])
    return scope, hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


class Sls(common.Server):
    def add_arguments(self, parser):
        parser.add_argument("--access-key-id", default="id")
        parser.add_argument("--access-key-secret", default="secret")
        parser.add_argument("--sts-token")
        parser.add_argument("--region", default="cn-hangzhou")
        parser.add_argument("--endpoint", help="what Host is beside the project; else anything")
        parser.add_argument("--project", action="append", help="one that there is; else all are")
        parser.add_argument("--logstore", action="append", help="one that there is; else all are")
        parser.add_argument("--clock-skew", type=float, default=0, metavar="SECONDS", help="of the service's clock")
        parser.add_argument("--max-logs", type=int, default=4096)
        parser.add_argument("--max-raw", type=int, default=3 << 20, metavar="BYTES")
        parser.add_argument("--signature", choices=["v1", "v4"], help="the only one accepted")

    def prepare(self):
        self.ids = count(1)

    def now(self):
        return time.time() + self.args.clock_skew

    def headers(self):
        now = self.now()
        return {
            "Date": formatdate(now, usegmt=True),
            "x-log-requestid": "%024X" % next(self.ids),
            "x-log-time": str(int(now)),
        }

    def refused(self, code, text, is_mistake=True):
        body = json.dumps({"errorCode": code, "errorMessage": text})
        headers = dict(self.headers(), **{"Content-Type": "application/json"})
        mistake = "%s: %s" % (code, text) if is_mistake else None
        return common.Refused(STATUSES.get(code, 400), body, headers, mistake)

    def failure(self, code):
        return self.refused(code, "on demand", is_mistake=False)

    def answer(self, request):
        project = self.project(request)
        route = ROUTE.fullmatch(request.path)
        if route is None:
            raise self.refused("ParameterInvalid", "no such path")
        if request.method != "POST":
            raise self.refused("MethodNotSupported", "use POST")
        to = {"project": project, "logstore": route[1]}
        query = dict(request.query)
        if route[2] == "route":
            to["key"] = query.pop("key", "")
            query.pop("seqid", None)
            if not re.fullmatch("[0-9a-fA-F]{32}", to["key"]):
                raise self.refused("ParameterInvalid", "key %r" % to["key"])
        if query:
            raise self.refused("ParameterInvalid", "parameters %r" % query)
        self.check_headers(request.headers)
        self.check_time(request.headers)
        self.check_signature(request)
        if self.args.project is not None and project not in self.args.project:
            raise self.refused("ProjectNotExist", "The Project does not exist : " + project, is_mistake=False)
        if self.args.logstore is not None and route[1] not in self.args.logstore:
            raise self.refused("LogStoreNotExist", "logstore %s does not exist" % route[1], is_mistake=False)
        return common.Response(200, headers=self.headers(), events=self.events(to, self.raw(request)))

    def project(self, request):
        host = request.headers["host"]
        if ADDRESS.fullmatch(host):
            project = request.headers.get("x-log-project")
            if not project:
                raise self.refused("MissingHost", "neither a project in Host nor x-log-project")
            return project
        project, _, endpoint = host.partition(".")
        if not endpoint:
            raise self.refused("MissingHost", "no project in Host %r" % host)
        if self.args.endpoint is not None and endpoint != self.args.endpoint:
            raise self.refused("ParameterInvalid", "Host %r is not of %s" % (host, self.args.endpoint))
        if request.headers.get("x-log-project", project) != project:
            raise self.refused("ParameterInvalid", "Host and x-log-project differ")
        return project

    def check_headers(self, headers):
        is_v4 = headers.get("authorization", "").startswith("SLS4-HMAC-SHA256 ")
        required = [
            ("content-length", "MissingContentLength"),
            ("content-type", "MissingContentType"),
            ("x-log-bodyrawsize", "MissingBodyRawSize"),
            ("x-log-apiversion", "MissingAPIVersion"),
        ]
        if is_v4:
            required += [("x-log-date", "MissingDate"), ("x-log-content-sha256", "ParameterInvalid")]
        else:
            required += [
                ("date", "MissingDate"),
                ("content-md5", "MissingContentMD5"),
                ("x-log-signaturemethod", "MissingSignatureMethod"),
            ]
        for name, code in required:
            if name not in headers:
                raise self.refused(code, "no " + name)
        if headers["content-type"] != "application/x-protobuf":
            raise self.refused("InvalidContentType", "Content-Type " + headers["content-type"])
        if headers["x-log-apiversion"] != "0.6.0":
            raise self.refused("InvalidAPIVersion", "x-log-apiversion " + headers["x-log-apiversion"])
        if headers.get("x-log-signaturemethod", "hmac-sha1") != "hmac-sha1":
            raise self.refused("InvalidSignatureMethod", headers["x-log-signaturemethod"])
        if not re.fullmatch("[0-9]+", headers["x-log-bodyrawsize"]):
            raise self.refused("InvalidBodyRawSize", "x-log-bodyrawsize " + headers["x-log-bodyrawsize"])
        if "content-encoding" in headers:
            raise self.refused("ParameterInvalid", "Content-Encoding")

    def check_time(self, headers):
        try:
            if headers["authorization"].startswith("SLS4-") if "authorization" in headers else False:
                sent = datetime.strptime(headers["x-log-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
            else:
                if not re.fullmatch(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", headers["date"]):
                    raise ValueError("not RFC 1123")
                sent = parsedate_to_datetime(headers["date"])
        except (TypeError, ValueError) as error:
            raise self.refused("InvalidDateFormat", str(error))
        if abs(sent.timestamp() - self.now()) > MOST_SKEW:
            # Whose clock is wrong is not for the service to say, unless it is its own, on demand.
            text = "Client request timestamp %d, server timestamp %d" % (sent.timestamp(), self.now())
            raise self.refused("RequestTimeExpired", text, is_mistake=not self.args.clock_skew)

    def check_signature(self, request):
        headers, args = request.headers, self.args
        authorization = headers.get("authorization")
        if authorization is None:
            raise self.refused("Unauthorized", "no Authorization")
        if args.sts_token is not None and headers.get("x-acs-security-token") != args.sts_token:
            raise self.refused("Unauthorized", "The security token you provided is invalid")
        if args.sts_token is None and "x-acs-security-token" in headers:
            raise self.refused("Unauthorized", "a security token for a lasting key")
        v1 = re.fullmatch("LOG ([^:]+):(.+)", authorization)
        v4 = re.fullmatch("SLS4-HMAC-SHA256 Credential=([^/]+)/([^,]+),Signature=([0-9a-f]{64})", authorization)
        if not (v1 or v4) or (args.signature is not None and (args.signature == "v1") != bool(v1)):
            raise self.refused("Unauthorized", "Authorization " + authorization)
        if (v1 or v4)[1] != args.access_key_id:
            raise self.refused("Unauthorized", "AccessKeyId not found: " + (v1 or v4)[1])
        what = (request.method, request.target.partition("?")[0], request.query, headers)
        if v4:
            if hashlib.sha256(request.wire).hexdigest() != headers["x-log-content-sha256"]:
                raise self.refused("SignatureNotMatch", "x-log-content-sha256 is of another body")
            # The vendor's own client sends Host, and does not always sign it.
            valid = [signature_v4(args.access_key_secret, args.region, *what, w) for w in [(), ("host",)]]
            is_valid = v4.groups()[1:] in valid
        else:
            # The vendor's own client repeats the date in x-log-date after it has signed.
            valid = [signature_v1(args.access_key_secret, *what, without) for without in [(), ("x-log-date",)]]
            is_valid = v1[2] in valid
        if not is_valid:
            raise self.refused("SignatureNotMatch", "signature %s not matched, %s expected" % (authorization, valid[0]))
        if "content-md5" in headers and headers["content-md5"] != hashlib.md5(request.wire).hexdigest().upper():
            raise self.refused("InvalidContentMD5", "Content-MD5 is of another body, or not upper-case")

    def raw(self, request):
        """The LogGroup's bytes."""
        size = int(request.headers["x-log-bodyrawsize"])
        if size > self.args.max_raw:
            raise self.refused("PostBodyTooLarge", "%d bytes, and at most %d" % (size, self.args.max_raw))
        kind = request.headers.get("x-log-compresstype")
        try:
            if kind is None:
                raw = request.wire
            elif kind == "lz4":
                raw = lz4.block.decompress(request.wire, uncompressed_size=size)
            elif kind == "zstd":
                raw = common.unzstd(request.wire)
            else:
                raise self.refused("InvalidCompressType", "x-log-compresstype " + kind)
        except (ValueError, lz4.block.LZ4BlockError) as error:
            raise self.refused("PostBodyUncompressError", str(error))
        if len(raw) != size:
            raise self.refused("InvalidBodyRawSize", "%d bytes, and x-log-bodyrawsize is %d" % (len(raw), size))
        return raw

    def events(self, to, raw):
        group = LogGroup()
        try:
            group.ParseFromString(raw)
        except message.DecodeError as error:
            raise self.refused("PostBodyInvalid", str(error))
        if not group.IsInitialized():
            raise self.refused("PostBodyInvalid", "missing: %s" % group.FindInitializationErrors()[:3])
        size = group.ByteSize()
        group.DiscardUnknownFields()
        if group.ByteSize() != size:
            raise self.refused("PostBodyInvalid", "fields that a LogGroup does not have")
        if not group.Logs:
            raise self.refused("PostBodyInvalid", "no logs")
        if len(group.Logs) > self.args.max_logs:
            raise self.refused("PostBodyTooLarge", "%d logs, and at most %d" % (len(group.Logs), self.args.max_logs))
        to = dict(to, topic=common.text(group.Topic), source=common.text(group.Source))
        tags = self.pairs(group.LogTags)
        return [self.event(to, tags, log) for log in group.Logs]

    def event(self, to, tags, log):
        if log.Time == 0 or log.Time_ns >= 10**9:
            raise self.refused("InvalidTimestamp", "Time %d, Time_ns %d" % (log.Time, log.Time_ns))
        if getattr(log, "values"):
            raise self.refused("PostBodyInvalid", "values without keys")
        fields = self.pairs(log.Contents)
        if self.is_poisoned(fields):
            raise self.refused("PostBodyInvalid", "a log has " + self.args.poison, is_mistake=False)
        return common.event(to, fields, log.Time * 10**9 + log.Time_ns, tags)

    def pairs(self, pairs):
        made = {}
        for pair in pairs:
            try:
                key = pair.Key.decode()
            except UnicodeDecodeError:
                raise self.refused("InvalidEncoding", "key %r" % pair.Key)
            if not key:
                raise self.refused("InvalidKey", "an empty key")
            if key in made:
                raise self.refused("InvalidKey", "key %r twice" % key)
            made[key] = common.text(pair.Value)
        return made


if __name__ == "__main__":
    Sls().run()
