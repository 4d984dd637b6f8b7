"""A stand-in for any collector that takes events as NDJSON or as a JSON array.

`fields` is the whole object of an event; `to` is `{"path": …}`."""

import common


class Http(common.Server):
    def add_arguments(self, parser):
        common.Credentials.add_arguments(parser)
        parser.add_argument("--method", default="POST")
        parser.add_argument("--path", help="404 for any other")

    def answer(self, request):
        if request.method != self.args.method:
            raise common.Refused(405, "use %s\n" % self.args.method, mistake="the method is not %s" % self.args.method)
        if self.args.path is not None and request.path != self.args.path:
            raise common.Refused(404, "no such path\n", mistake="the path is not %s" % self.args.path)
        if not common.Credentials.accept(self.args, request):
            raise common.Refused(401, "who are you?\n", {"WWW-Authenticate": "Basic"}, mistake="not authorized")
        try:
            body = request.body().decode("utf-8", "strict")
            if request.media_type() == "application/x-ndjson":
                lines = ndjson(body)
            elif request.media_type() == "application/json":
                lines = array(body)
            else:
                raise common.Refused(415, mistake="Content-Type %r" % request.headers.get("content-type"))
        except ValueError as error:
            raise common.Refused(400, "%s\n" % error, mistake=str(error))
        if self.args.poison is not None:
            if any(self.is_poisoned(common.strict_json(line)) for line in lines):
                raise common.Refused(400, "an event was refused: it has %s\n" % self.args.poison)
        # An event is stored as it came: it is one line of JSON.
        head = '{"to":{"path":%s},"fields":' % common.json.dumps(request.path)
        tail = ',"time_ns":null,"tags":{}}'
        return common.Response(200, events=[head + line + tail for line in lines])


def ndjson(body):
    """The lines of NDJSON, each of which is an object."""
    if not body.endswith("\n"):
        raise ValueError("NDJSON that does not end with a newline" if body else "no events")
    lines = body[:-1].split("\n")
    for line in lines:
        if not isinstance(common.strict_json(line), dict):
            raise ValueError("not an object: %s" % line[:200])
    return lines


def array(body):
    """The objects of a JSON array, as lines."""
    events = common.strict_json(body)
    if not isinstance(events, list) or not events or not all(isinstance(event, dict) for event in events):
        raise ValueError("not an array of objects, or an empty one")
    return [common.json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in events]


if __name__ == "__main__":
    Http().run()
