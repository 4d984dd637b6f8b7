"""What a plugin's author relies on, without the sandbox."""

from __future__ import annotations

import io
import json
import re
import tempfile
import unittest
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Literal

from weir_plugin import (
    DROP,
    KEEP,
    Batch,
    BatchPlugin,
    Event,
    Failure,
    Fate,
    Fields,
    Kind,
    NoSettings,
    Out,
    Plugin,
    RegexPlugin,
    Row,
)
from weir_plugin import count, log, times
from weir_plugin.console import Console
from weir_plugin.plugin import NoPlugin, as_plugin, reader_of
from weir_plugin.testing import Harness, golden, run


def picky(event: Event, row: Row) -> Fate:
    """Fails what begins with `!`, drops what begins with `-`, and passes the rest on in capitals."""
    text = event.text()
    row.put("loud", text.upper())
    if text.startswith("!"):
        raise Failure("shouting")
    return DROP if text.startswith("-") else KEEP


class Pairs(BatchPlugin[NoSettings]):
    """Joins pairs of lines; holds a single one."""

    def __init__(self, settings: NoSettings, fields: Fields) -> None:
        self.pair = fields.add("pair")

    def batch(self, batch: Batch, last: bool, out: Out) -> None:
        pairs, odd = divmod(len(batch), 2)
        for i in range(0, 2 * pairs, 2):
            row = out.row(batch.event(i))
            row.put(self.pair, batch.event(i).text() + batch.event(i + 1).text())
            out.keep(i, i + 2)
        if odd and last:
            out.fail(len(batch) - 1, "alone")
        else:
            out.hold(odd)


class Way(Enum):
    """How it goes."""

    TOO_FEW = "too_few"
    """The first way."""
    OTHER = "other"


@dataclass
class Inner:
    start: str
    to: str | None = None


@dataclass
class Example:
    level: Literal["a", "b"]
    """Which level."""
    limit: int | None
    most: int = 3
    names: list[Inner] = field(default_factory=list, metadata={"doc": "From and to."})
    way: Way = Way.OTHER


class Picks(Plugin[Example]):
    def __init__(self, settings: Example, fields: Fields) -> None:
        self.settings = settings

    def event(self, event: Event, row: Row) -> Fate:
        row.put("settings", repr(self.settings))
        return KEEP


class Level(RegexPlugin[NoSettings]):
    pattern = (
        rb"(?P<level>[a-z]+): (?P<message>[^ ]*)(?: (?P<count>[0-9]+))?",
        rb"(?P<level>[A-Z]+)=(?P<message>.*)(?P<count>)",
    )
    kinds = {"count": Kind.INTEGER}
    unescape = {"message": lambda value: value.replace(rb"\n", b"\n")}


class Sdk(unittest.TestCase):
    maxDiff = None

    def test_each_event_is_kept_failed_or_dropped_in_its_place(self) -> None:
        out = Harness(picky).process(["a", "!b", "-c", "d", "!e", "-f"])
        got = [(event.cells[0][2], event.error, event.origin[0]) for event in out.events]
        self.assertEqual(got, [("A", None, 0), ("!b", "shouting", 1), ("D", None, 3), ("!e", "shouting", 4)])
        self.assertEqual((out.dropped, out.held), (2, 0))

    def test_drops_at_either_end_are_told_apart(self) -> None:
        cases: list[tuple[list[str], list[int], int]] = [
            (["-a", "b"], [1], 1),
            (["a", "-b"], [0], 1),
            (["-a"], [], 1),
            ([], [], 0),
            (["!a", "-b", "c"], [0, 2], 1),
        ]
        for lines, kept, dropped in cases:
            out = Harness(picky).process(lines)
            self.assertEqual(([event.origin[0] for event in out.events], out.dropped), (kept, dropped), lines)

    def test_a_batch_plugin_joins_and_holds(self) -> None:
        pairs = Harness(Pairs)
        out = pairs.process(["a", "b", "c"], last=False)
        self.assertEqual((out.events[0].get("pair"), out.events[0].origin, out.held), ("ab", (0, 2), 1))
        self.assertEqual(pairs.process(["c"]).events[0].error, "alone")

    def test_values_have_the_kind_of_their_type(self) -> None:
        def values(event: Event, row: Row) -> Fate:
            for value in ("é", b"\xc3", 1, 1.5, True, None, [1], {"a": "ü"}):
                row.put("__x", value)
            return KEEP

        (event,) = run(values, ["line"])
        expected = [
            ("_x", Kind.TEXT, "é"),
            ("_x", Kind.TEXT, "\ufffd"),
            ("_x", Kind.INTEGER, "1"),
            ("_x", Kind.FLOAT, "1.5"),
            ("_x", Kind.BOOLEAN, "true"),
            ("_x", Kind.JSON, "[1]"),
            ("_x", Kind.JSON, '{"a":"ü"}'),
        ]
        self.assertEqual(event.cells, expected)
        long = "ü" * 200
        for name, allowed in [("a", "a"), ("_a", "_a"), ("__a", "_a"), ("____", "_"), ("", "_"), (long, long[:128])]:
            self.assertEqual(Fields.allowed(name), allowed)

    def test_a_mistake_fails_the_event_that_it_is_made_on_and_no_other(self) -> None:
        def careless(event: Event, row: Row) -> Fate:
            row.put("third", event.text().split()[2])
            return KEEP

        events = run(careless, ["a b c", "a b", b"\xff"])
        line = careless.__code__.co_firstlineno + 1
        place = f"IndexError at tests/test_sdk.py:{line}"
        self.assertEqual([event.error for event in events], [None, place, "not UTF-8"])

    def test_a_mistake_is_placed_in_the_plugins_own_code(self) -> None:
        def reads(event: Event, row: Row) -> Fate:
            json.loads(event.content)
            return KEEP

        def decodes(event: Event, row: Row) -> Fate:
            event.content.decode("ascii")
            return KEEP

        for plugin, line, error in [(reads, "x", "JSONDecodeError"), (decodes, "é", "UnicodeDecodeError")]:
            said = io.StringIO()
            with redirect_stderr(said):
                (event,) = run(plugin, [line])
            place = f"tests/test_sdk.py:{plugin.__code__.co_firstlineno + 1}"
            self.assertEqual(event.error, f"{error} at {place}")
            self.assertIn(f"at {place} in {plugin.__name__}\n", said.getvalue())
            self.assertTrue(said.getvalue().startswith(f"error: {error}: "), said.getvalue())

    def test_what_the_sandbox_would_trap_on_fails_the_event_in_words(self) -> None:
        f: Any = 0
        say: Any = log
        add: Any = count
        calls: dict[str, Callable[[Any, Any], object]] = {
            "ValueError: the span from -1 to 3 leaves the event's bytes, 4 to 7": lambda e, row: row.put_span(f, -1, 3),
            "ValueError: the span from 4 to 8 leaves the event's bytes, 4 to 7": lambda e, row: row.put_span(f, 4, 8),
            "ValueError: the span from 0 to 2 leaves the event's bytes, 4 to 7": lambda e, row: row.put_span(f, 0, 2),
            "ValueError: the span from 6 to 5 leaves the event's bytes, 4 to 7": lambda e, row: row.put_span(f, 6, 5),
            "TypeError: a span is of two whole numbers, not of float and int": lambda e, row: row.put_span(f, 4.0, 5),
            "TypeError: a field is what `fields.add` returned, not str": lambda e, row: row.put_span("f", 4, 5),
            "ValueError: there is no field 9: give what `fields.add` returned": lambda e, row: row.put(9, "x"),
            "TypeError: a field is what `fields.add` returned, not NoneType": lambda e, row: row.put(None, "x"),
            "TypeError: a time is a whole number of nanoseconds, not float": lambda e, row: row.time(1.5),
            "TypeError: a time is a whole number of nanoseconds, not str": lambda e, row: row.time("2024"),
            f"ValueError: the time {2**63} has more than 64 bits: it is in nanoseconds since 1970": lambda e, row: row.time(2**63),
            "TypeError: field `x`: its kind is one of Kind, not str": lambda e, row: row.fields.add("x", "text"),
            "ValueError: there is no level `warning`: use debug, info, warn or error": lambda e, row: say("warning", ""),
            "ValueError: a counter only goes up, by less than 2^64, and not by -1": lambda e, row: add("c", -1),
            "TypeError: a counter takes whole numbers, not float": lambda e, row: add("c", 0.5),
        }
        for words, call in calls.items():

            def careless(event: Event, row: Row) -> Fate:
                row.fields.add("f")
                row.put_span(f, event.start, event.end)
                if event.index == 1:
                    call(event, row)
                return KEEP

            said = io.StringIO()
            with redirect_stderr(said):
                events = run(careless, ["one", "two", "six"])
            kind = words.partition(":")[0]
            place = f"tests/test_sdk.py:{call.__code__.co_firstlineno}"
            self.assertEqual(said.getvalue().splitlines()[0], f"error: {words}")
            self.assertEqual([events[0].pairs(), events[2].pairs()], [[("f", "one")], [("f", "six")]])
            self.assertEqual(events[1].error, f"{kind} at {place}")

    def test_spans_may_be_of_all_that_a_batch_plugin_joins_and_empty_anywhere(self) -> None:
        class Joins(Plugin[NoSettings]):
            def __init__(self, settings: NoSettings, fields: Fields) -> None:
                self.field = fields.add("f")

            def event(self, event: Event, row: Row) -> Fate:
                row.put_span(self.field, 0, 0)
                return KEEP

            def batch(self, batch: Batch, last: bool, out: Out) -> None:
                if len(batch) != 2:
                    return super().batch(batch, last, out)
                out.row(batch.event(0)).put_span(self.field, batch.event(0).start, batch.event(1).end)
                out.keep(0, 2)

        self.assertEqual([event.pairs() for event in run(Joins, ["a", "b"])], [[("f", "a\nb")]])
        self.assertEqual([event.pairs() for event in run(Joins, ["a", "b", "c"])], [[("f", "")]] * 3)

    def test_what_is_printed_is_logged_by_whole_lines(self) -> None:
        before, logged = io.StringIO(), io.StringIO()
        console = Console(before)
        print("built", file=console)
        console.begin()
        with redirect_stderr(logged):
            print("one", 1, file=console)
            print("two\n\nthr", end="", file=console)
            print("ee", file=console)
            print("four", end="", file=console)
            self.assertEqual(logged.getvalue(), "info: one 1\ninfo: two\ninfo: three\n")
            console.end_line()
            console.end_line()
        self.assertEqual(logged.getvalue().splitlines()[3:], ["info: four"])
        self.assertEqual(before.getvalue(), "built\n")

    def test_half_surrogate_pairs_do_not_reach_the_wall(self) -> None:
        def halves(event: Event, row: Row) -> Fate:
            log("info", "\ud800é")
            raise Failure("\ud800é")

        said = io.StringIO()
        with redirect_stderr(said):
            (event,) = run(halves, ["a"])
        self.assertEqual((event.error, said.getvalue()), ("?é", "info: ?é\n"))

    def test_what_would_fail_with_each_event_is_refused_when_it_is_exported(self) -> None:
        class Plain:
            def event(self, event: Event, row: Row) -> Fate:
                return KEEP

        class Nothing(Plugin[NoSettings]):
            pass

        class Empty(BatchPlugin[NoSettings]):
            pass

        class Mistaken(BatchPlugin[NoSettings]):
            def event(self, event: Event, row: Row) -> Fate:
                return KEEP

        class Short(Plugin[NoSettings]):
            def event(self, event: Event) -> Fate:  # type: ignore[override]
                return KEEP

        class Fixed(Plugin[NoSettings]):
            @staticmethod
            def event(event: Event) -> Fate:  # type: ignore[override]
                return KEEP

        class Hasty(BatchPlugin[NoSettings]):
            def batch(self, batch: Batch, out: Out) -> None:  # type: ignore[override]
                pass

        class Unset(Plugin[NoSettings]):
            def __init__(self) -> None:
                pass

            def event(self, event: Event, row: Row) -> Fate:
                return KEEP

        def alone(event: Event) -> Fate:
            return KEEP

        cases: list[tuple[Any, str]] = [
            (Plain, "the class Plain is no plugin: make it one by `class Plain(Plugin[NoSettings])`"),
            (Nothing, "the class Nothing has neither `event` nor `batch`"),
            (Empty, "the class Empty has neither `event` nor `batch`"),
            (
                Mistaken,
                "the class Mistaken has `event`, and no `batch` as a BatchPlugin must: make it "
                "`class Mistaken(Plugin[NoSettings])`",
            ),
            (Short, "`Short.event` must take (self, event, row), and it takes (self, event)"),
            (Fixed, "`Fixed.event` must take (event, row), and it takes (event)"),
            (Hasty, "`Hasty.batch` must take (self, batch, last, out), and it takes (self, batch, out)"),
            (Unset, "`Unset.__init__` must take (self, settings, fields), and it takes (self)"),
            (alone, "`alone` must take (event, row), and it takes (event)"),
            (Level(NoSettings(), Fields()), "export takes a class or a function: this is neither, but a Level"),
            ("alone", "export takes a class or a function: this is neither, but a str"),
        ]
        for plugin, words in cases:
            with self.assertRaises(NoPlugin) as refused:
                as_plugin(plugin)
            self.assertEqual(str(refused.exception), words)
        fine: list[Any] = [Level, Pairs, Picks, picky, lambda *arguments: KEEP]
        for plugin in fine:
            as_plugin(plugin)

    def test_wrong_settings_are_refused_in_words(self) -> None:
        for settings, expected in [
            ('{"levle": 1}', "unknown field `levle`, expected one of `level`, `limit`, `most`, `names`, `way`"),
            ("{}", "missing field `level`"),
            ('{"level": "c"}', 'level: expected one of `a`, `b`, got "c"'),
            ('{"level": "a", "most": true}', "most: expected a whole number, got true"),
            ('{"level": "a", "names": [{"start": "x", "too": 1}]}', "names[0]: unknown field `too`, expected one of `start`, `to`"),
            ('{"level": "a", "names": [{}]}', "names[0]: missing field `start`"),
            ("[]", "expected an object, got []"),
        ]:
            with self.assertRaises(ValueError) as refused:
                run(Picks, ["a"], settings)
            self.assertEqual(str(refused.exception), expected)
        with self.assertRaisesRegex(ValueError, "^unknown field `x`, there are no settings$"):
            run(picky, ["a"], {"x": 1})
        (event,) = run(Picks, ["a"], {"level": "b", "names": [{"start": "x"}], "way": "too_few"})
        read = Example("b", None, 3, [Inner("x")], Way.TOO_FEW)
        self.assertEqual(event.get("settings"), repr(read))

    def test_the_schema_is_that_of_the_other_sdks(self) -> None:
        inner = {"start": {"type": "string"}, "to": {"anyOf": [{"type": "string"}, {"type": "null"}]}}
        closed = {"type": "object", "properties": inner, "required": ["start"], "additionalProperties": False}
        properties = {
            "level": {"description": "Which level.", "oneOf": [{"const": "a"}, {"const": "b"}]},
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "most": {"type": "integer"},
            "names": {"description": "From and to.", "type": "array", "items": closed},
            "way": {"oneOf": [{"const": "too_few", "description": "The first way."}, {"const": "other"}]},
        }
        schema = {"type": "object", "properties": properties, "required": ["level"], "additionalProperties": False}
        self.assertEqual(reader_of(Picks).schema(), schema)

    def test_settings_of_unknown_types_are_found_when_the_plugin_is_built(self) -> None:
        @dataclass
        class Wrong:
            one: set[str]

        globals()["Wrong"] = Wrong
        with self.assertRaisesRegex(TypeError, "Wrong.one: settings cannot be of type set"):
            reader_of(type("P", (Plugin,), {"__orig_bases__": (Plugin[Wrong],)}))

    def test_a_regular_expression_makes_fields_of_its_groups(self) -> None:
        events = run(Level, ["warn: disk 7", r"a: b\nc", "X=y z", "nothing", "warn: disk 7 more"])
        self.assertEqual(events[0].pairs(), [("level", "warn"), ("message", "disk"), ("count", "7")])
        self.assertEqual(events[1].pairs(), [("level", "a"), ("message", "b\nc")])
        self.assertEqual(events[2].pairs(), [("level", "X"), ("message", "y z"), ("count", "")])
        self.assertEqual([event.error for event in events[3:]], ["the line does not match"] * 2)

    def test_a_regular_expression_does_the_same_for_events_of_several_cells(self) -> None:
        class Choosy(Level):
            def keep(self, match: re.Match[bytes]) -> bool:
                return match["level"] != b"debug"

        cells = [
            [("content", Kind.TEXT, "debug: x"), ("pod", Kind.TEXT, "p")],
            [("pod", Kind.TEXT, "p"), ("content", Kind.TEXT, "info: x")],
        ]
        out = Harness(Choosy).process_cells(cells)
        self.assertEqual(out.dropped, 1)
        self.assertEqual(out.events[0].pairs(), [("level", "info"), ("message", "x"), ("pod", "p")])

    def test_anchors_are_those_of_the_line(self) -> None:
        class Anchored(RegexPlugin[NoSettings]):
            pattern = rb"^(?P<a>\w+) (?P<b>\w+)$"

        events = run(Anchored, ["one two", "three four"])
        self.assertEqual([event.pairs() for event in events], [[("a", "one"), ("b", "two")], [("a", "three"), ("b", "four")]])

    def test_a_pattern_without_groups_is_refused(self) -> None:
        class Nothing(RegexPlugin[NoSettings]):
            pattern = rb"a"

        with self.assertRaisesRegex(ValueError, "it has no named group"):
            run(Nothing, [])

    def test_an_event_keeps_the_time_that_it_had_unless_it_is_given_one(self) -> None:
        def late(event: Event, row: Row) -> Fate:
            if event.text() == "late":
                row.time(5)
            return KEEP

        class Timed(RegexPlugin[NoSettings]):
            pattern = rb"(?P<t>.*)"
            time = ("t", "unix_ns")

        for plugin, text in [(late, "late"), (Timed, "5")]:
            cells = [[("content", Kind.TEXT, "early")], [("content", Kind.TEXT, text)]]
            without = Harness(plugin).process_cells(cells)  # type: ignore[arg-type]
            self.assertEqual([event.time for event in without.events], [None, 5])
            given = Harness(plugin).process_cells(cells, times=[7, 8])  # type: ignore[arg-type]
            self.assertEqual([event.time for event in given.events], [7, 5])

    def test_golden_files_are_read_as_the_sandbox_reads_them(self) -> None:
        def passing(event: Event, row: Row) -> Fate:
            row.pass_all_but(event, "")
            return KEEP

        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)

            def put(name: str, text: str) -> None:
                (folder / name).write_bytes(text.encode())

            put("crlf.log", "a\r\n\r\nb\rc\r\nd")
            put("crlf.expected.ndjson", '{"content":"a"}\n{"content":""}\n{"content":"b\\rc"}\n{"content":"d"}\n')
            put("empty.log", "")
            put("empty.expected.ndjson", "")
            event = '{"a" : 1.50, "b":1E3,"c":12345678901234567890,"d":[1.0, "]"],"e":{"x": -0},"f":"\\u00e9","a":2}'
            put("events.events.ndjson", f"{event}\r\n")
            out = '{"a":1.50,"b":1E3,"c":12345678901234567890,"d":[1.0, "]"],"e":{"x": -0},"f":"é","a":2}\n'
            put("events.expected.ndjson", out)
            golden(passing, "p", folder)
            put("lost.log", "x\n")
            with self.assertRaisesRegex(AssertionError, "there is no .*lost.expected.ndjson"):
                golden(passing, "p", folder)
            (folder / "lost.log").unlink()
            for line, refusal in [
                ("[1]", "it is no JSON object"),
                ("{", "it is no JSON object"),
                ('{"__tags__":{}}', "`__tags__`: of the names that begin with `__` an event has only __time__"),
                ('{"__time__":"soon"}', '"soon" is not RFC 3339'),
            ]:
                put("events.events.ndjson", line)
                with self.assertRaisesRegex(AssertionError, refusal):
                    golden(passing, "p", folder)

    def test_times_are_read_as_the_other_sdks_read_them(self) -> None:
        second = 1_136_214_245 * 1_000_000_000
        for text, expected in [
            ("2006-01-02T15:04:05Z", second),
            ("2006-01-02 15:04:05", second),
            ("2006-01-02T22:04:05.25+07:00", second + 250_000_000),
            ("2006-01-02T15:04:05,123456789987Z", second + 123_456_789),
            ("1969-12-31T23:59:59Z", -1_000_000_000),
            ("2006-01-02T15:04:05.Z", None),
            ("2006-13-02T15:04:05Z", None),
            ("9999-12-31T23:59:59Z", None),
        ]:
            self.assertEqual(times.parse_rfc3339(text.encode()), expected, text)
        self.assertEqual(times.parse_clf(b"10/Oct/2000:13:55:36 -0700"), 971_211_336_000_000_000)
        self.assertIsNone(times.parse_clf(b"29/Feb/2023:00:00:00 +0000"))
        self.assertEqual(times.reader("unix")(b"1136214245.5"), second + 500_000_000)
        self.assertIsNone(times.reader("unix")(b"9" * 20))
        with self.assertRaisesRegex(ValueError, "time format `iso` is not known"):
            times.reader("iso")


if __name__ == "__main__":
    unittest.main()
