"""A stand-in for Elasticsearch's bulk API.

`fields` is the document; `to` has the index, and the id if the client has set one."""

import json
import re
import threading
import time
from itertools import count

import common

TYPES = re.compile(r"application/(vnd\.elasticsearch\+)?(x-ndjson|json)(\s*;.*)?", re.IGNORECASE)
PARAMETERS = {"_index", "_id", "routing", "pipeline", "require_alias", "dynamic_templates"}
# What an index's name cannot have or be.
BAD_NAME = re.compile(r'[A-Z\\/*?"<>| ,#:]|^[-_+]|^\.\.?$|^$')


class Elasticsearch(common.Server):
    def add_arguments(self, parser):
        common.Credentials.add_arguments(parser)
        parser.add_argument("--api-key", help="what must follow ApiKey")
        parser.add_argument("--busy-items", type=int, default=0, metavar="COUNT", help="refuse every other with 429")
        parser.add_argument("--data-stream", action="append", default=[], metavar="NAME")

    def prepare(self):
        self.lock = threading.Lock()
        self.sequence = count()
        # Documents with ids that are there, by index.
        self.ids = set()
        with open(self.args.out, encoding="utf-8") as file:
            for line in file:
                to = json.loads(line)["to"]
                if "id" in to:
                    self.ids.add((to["index"], to["id"]))

    def headers(self):
        return {"X-elastic-product": "Elasticsearch", "Content-Type": "application/json"}

    def refused(self, status, kind, reason, is_mistake=True):
        cause = {"type": kind, "reason": reason}
        body = json.dumps({"error": {"root_cause": [cause], **cause}, "status": status})
        return common.Refused(status, body, self.headers(), "%s: %s" % (kind, reason) if is_mistake else None)

    def failure(self, code):
        kind = "es_rejected_execution_exception" if code == "429" else "unavailable"
        return self.refused(int(code), kind, "on demand", is_mistake=False)

    def answer(self, request):
        self.check_authorization(request)
        if request.path == "/" and request.method in ("GET", "HEAD"):
            about = {"name": "stand-in", "version": {"number": "9.1.3"}, "tagline": "You Know, for Search"}
            return common.Response(200, json.dumps(about), self.headers())
        path = re.fullmatch(r"(?:/([^/]+))?/_bulk", request.path)
        if path is None or request.method not in ("POST", "PUT"):
            raise self.refused(405, "method_not_allowed", "%s %s" % (request.method, request.path))
        if not TYPES.fullmatch(request.headers.get("content-type", "")):
            raise self.refused(406, "media_type_header_exception", "Content-Type is not supported")
        try:
            body = request.body(("gzip",)).decode()
        except ValueError as error:
            raise self.refused(400, "parse_exception", str(error))
        begun = time.monotonic()
        events, items = [], []
        with self.lock:
            for action, at, document in self.operations(body, path[1]):
                items.append({action: self.do(action, at, document, events)})
            # Under the lock, for an order that is the sequence numbers' own.
            if events:
                self.files.store(events)
        answer = {
            "took": int(1000 * (time.monotonic() - begun)),
            "errors": any("error" in result for item in items for result in item.values()),
            "items": items,
        }
        return common.Response(200, json.dumps(answer), self.headers(), stored=len(events))

    def check_authorization(self, request):
        is_known = common.Credentials.accept(self.args, request)
        if self.args.api_key is not None:
            is_known = request.headers.get("authorization") == "ApiKey " + self.args.api_key
        if not is_known:
            raise self.refused(401, "security_exception", "missing or wrong authentication credentials")

    def operations(self, body, index):
        """The operations of a bulk request, all of which are well formed: action, metadata, the document as text."""
        if not body:
            raise self.refused(400, "parse_exception", "request body is required")
        if not body.endswith("\n"):
            raise self.bad("The bulk request must be terminated by a newline [\\n]")
        lines = body[:-1].split("\n")
        operations = []
        at = 0
        while at < len(lines):
            try:
                action = common.strict_json(lines[at])
                ((name, meta),) = action.items()
                meta = dict(meta)
            except (ValueError, AttributeError, TypeError):
                raise self.bad("Malformed action/metadata line [%d]: %s" % (at + 1, lines[at][:100]))
            if name not in ("index", "create"):
                raise self.bad("action %s: this stand-in takes index and create" % name)
            if not set(meta) <= PARAMETERS:
                raise self.bad("Action/metadata line [%d] contains an unknown parameter %s" % (at + 1, sorted(meta)))
            if not all(isinstance(value, str) for key, value in meta.items() if key in ("_index", "_id")):
                raise self.bad("Malformed action/metadata line [%d]: names are text" % (at + 1))
            meta.setdefault("_index", index)
            if meta["_index"] is None:
                raise self.refused(400, "action_request_validation_exception", "index is missing")
            if at + 1 >= len(lines):
                raise self.bad("The last action has no document")
            operations.append((name, meta, lines[at + 1]))
            at += 2
        return operations

    def bad(self, reason):
        return self.refused(400, "illegal_argument_exception", reason)

    def do(self, action, meta, text, events):
        """An item of the answer; an event, if the document is accepted."""
        index, number = meta["_index"], next(self.sequence)
        result = {"_index": index, "_id": meta.get("_id", "auto-%d" % number)}

        def error(status, kind, reason, is_mistake=True):
            if is_mistake:
                self.files.mistake("%s in %s: %s: %s" % (action, index, kind, reason))
            return dict(result, status=status, error={"type": kind, "reason": reason})

        if BAD_NAME.search(index) or len(index.encode()) > 255:
            return error(400, "invalid_index_name_exception", "Invalid index name [%s]" % index)
        try:
            document = common.strict_json(text)
        except ValueError as e:
            return error(400, "document_parsing_exception", str(e))
        if not isinstance(document, dict):
            return error(400, "document_parsing_exception", "not an object")
        if any(name in document for name in ("_id", "_index", "_source", "_type", "_routing", "_ignored")):
            return error(400, "document_parsing_exception", "a field that is a metadata field")
        if index in self.args.data_stream:
            if action != "create":
                return error(400, "illegal_argument_exception", "only create is allowed in data streams")
            if "@timestamp" not in document:
                return error(400, "document_parsing_exception", "field [@timestamp] is missing")
        if self.is_poisoned(document):
            return error(400, "mapper_parsing_exception", "failed to parse: it has the poison", is_mistake=False)
        if self.args.busy_items > 0 and number % 2 == 1:
            self.args.busy_items -= 1
            return error(429, "es_rejected_execution_exception", "rejected execution", is_mistake=False)
        to, how = {"index": index}, "created"
        if "_id" in meta:
            key = (index, meta["_id"])
            if key in self.ids:
                if action == "create":
                    # Not a mistake: so a client learns that it was here before.
                    reason = "[%s]: version conflict, document already exists" % meta["_id"]
                    return error(409, "version_conflict_engine_exception", reason, is_mistake=False)
                how = "updated"
            self.ids.add(key)
            to["id"] = meta["_id"]
        events.append('{"to":%s,"fields":%s,"time_ns":null,"tags":{}}' % (json.dumps(to), text.strip()))
        shards = {"total": 1, "successful": 1, "failed": 0}
        status = 201 if how == "created" else 200
        return dict(
            result, _version=1, result=how, _shards=shards, _seq_no=number, _primary_term=1, status=status
        )


if __name__ == "__main__":
    Elasticsearch().run()
