"""What schemathesis cannot know of weir."""

import os

import schemathesis
from schemathesis.transport.serialization import Binary

# Events of a tap that are waited for.
MOST_TAPPED = 200

with open(os.environ["WEIR_TEST_PLUGIN"], "rb") as file:
    PLUGIN = Binary(file.read())


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw.get("operationId")
    if operation == "tap":
        limit = (case.query or {}).get("limit")
        if isinstance(limit, int) and limit > MOST_TAPPED:
            case.query["limit"] = MOST_TAPPED
    # Nothing is logged that could be waited for.
    if operation == "log" and str((case.query or {}).get("follow")).lower() == "true":
        del case.query["follow"]
    # Of three uploads that are as described two are a plugin.
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    if operation == "push" and is_positive and isinstance(case.body, dict) and len(repr(case.body)) % 3 != 0:
        case.body = {"plugin": PLUGIN, "settings": '{"fields": ["number", "v%d"]}' % (len(repr(case.body)) % 3)}
