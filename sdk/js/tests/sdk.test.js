// What a plugin's author relies on, without the sandbox.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import {
  DROP,
  Failure,
  KEEP,
  Kind,
  RegexPlugin,
  count,
  decode,
  encode,
  fail,
  log,
  parseClf,
  parseRfc3339,
  s,
  timeReader,
} from "../src/index.js";
import { withoutClock } from "../src/clock.js";
import { Fields } from "../src/out.js";
import { Harness, golden, run } from "../src/testing.js";

/** Fails what begins with `!`, drops what begins with `-`, and passes the rest on in capitals. */
function picky(event, row) {
  row.put("loud", event.text().toUpperCase());
  if (event.text().startsWith("!")) return fail("shouting");
  if (event.text().startsWith("?")) throw new Failure("asking");
  return event.text().startsWith("-") ? DROP : KEEP;
}

/** Joins pairs of lines; holds a single one. */
class Pairs {
  constructor(_, fields) {
    this.pair = fields.add("pair");
  }
  batch(batch, last, out) {
    const odd = batch.length % 2;
    for (let i = 0; i + 1 < batch.length; i += 2) {
      const row = out.row(batch.event(i));
      row.put(this.pair, batch.event(i).text() + batch.event(i + 1).text());
      out.keep(i, i + 2);
    }
    if (odd && last) out.fail(batch.length - 1, "alone");
    else out.hold(odd);
  }
}

test("each event is kept, failed or dropped in its place", () => {
  const out = new Harness(picky).process(["a", "!b", "-c", "d", "?e", "-f"]);
  assert.deepEqual(
    out.events.map((event) => [event.cells[0].value, event.error, event.origin[0]]),
    [["A", undefined, 0], ["!b", "shouting", 1], ["D", undefined, 3], ["?e", "asking", 4]],
  );
  assert.deepEqual([out.dropped, out.held], [2, 0]);
});

test("drops at either end are told apart", () => {
  for (const [lines, kept, dropped] of [
    [["-a", "b"], [1], 1],
    [["a", "-b"], [0], 1],
    [["-a"], [], 1],
    [[], [], 0],
    [["!a", "-b", "c"], [0, 2], 1],
  ]) {
    const out = new Harness(picky).process(lines);
    assert.deepEqual([out.events.map((event) => event.origin[0]), out.dropped], [kept, dropped]);
  }
});

test("a batch plugin joins and holds", () => {
  const pairs = new Harness(Pairs);
  const out = pairs.process(["a", "b", "c"], false);
  assert.deepEqual([out.events[0].get("pair"), out.events[0].origin, out.held], ["ab", [0, 2], 1]);
  assert.equal(pairs.process(["c"]).events[0].error, "alone");
});

test("values have the kind of their type, and names from data such as may be", () => {
  const [event] = run((_, row) => {
    for (const value of ["é\ud800", 1, -0, 1.5, 1e300, 12n, true, null, undefined, [1], { a: "ü" }, new Uint8Array([104])]) {
      row.put("__x", value);
    }
    return KEEP;
  }, ["line"]);
  assert.deepEqual(
    event.cells.map(({ name, kind, value }) => [name, kind, value]),
    [
      ["_x", "text", "é\ufffd"],
      ["_x", "integer", "1"],
      ["_x", "integer", "0"],
      ["_x", "float", "1.5"],
      ["_x", "float", "1e+300"],
      ["_x", "integer", "12"],
      ["_x", "boolean", "true"],
      ["_x", "json", "[1]"],
      ["_x", "json", '{"a":"ü"}'],
      ["_x", "text", "h"],
    ],
  );
  const long = "ü".repeat(200);
  for (const [name, allowed] of [["a", "a"], ["_a", "_a"], ["__a", "_a"], ["____", "_"], ["", "_"], [long, long.slice(0, 128)]]) {
    assert.equal(Fields.allowed(name), allowed);
  }
});

test("a mistake fails the event that it is made on, and no other", () => {
  const events = run(function careless(event, row) {
    row.put("third", event.text().split(" ")[2].trim());
    return KEEP;
  }, ["a b c", "a b", new Uint8Array([0xff])]);
  assert.deepEqual(events.map((event) => event.error), [undefined, "TypeError in careless", "not UTF-8"]);
  assert.equal(run(() => undefined, ["a"])[0].error, "neither KEEP nor DROP was returned, but undefined");
});

test("what the sandbox would trap on fails the event in words", () => {
  for (const [error, call] of [
    ["RangeError: the span from -1 to 3 leaves the event's bytes, 4 to 7", (row) => row.putSpan(0, -1, 3)],
    ["RangeError: the span from 4 to 8 leaves the event's bytes, 4 to 7", (row) => row.putSpan(0, 4, 8)],
    ["RangeError: the span from 0 to 2 leaves the event's bytes, 4 to 7", (row) => row.putSpan(0, 0, 2)],
    ["RangeError: the span from NaN to 5 leaves the event's bytes, 4 to 7", (row) => row.putSpan(0, NaN, 5)],
    ["TypeError: a field is what `fields.add` returned, not a string", (row) => row.putSpan("f", 4, 5)],
    ["TypeError: a time is a BigInt of nanoseconds, not 1.5", (row) => row.time(1.5)],
    ["RangeError: the time 9223372036854775808 has more than 64 bits: it is in nanoseconds since 1970", (row) => row.time(1n << 63n)],
    ["Error: there is no level `warning`: use debug, info, warn or error", () => log("warning", "")],
    ["Error: a counter goes up by whole numbers, and not by -1", () => count("c", -1)],
    ["Error: a counter goes up by whole numbers, and not by 0.5", () => count("c", 0.5)],
  ]) {
    const thrown = [];
    const events = run((event, row) => {
      row.fields.add("f");
      row.putSpan(0, event.start, event.end);
      try {
        if (event.index === 1) call(row);
      } catch (mistake) {
        thrown.push(`${mistake}`, mistake.stack.split("\n")[1].includes("sdk.test.js"));
        throw mistake;
      }
      return KEEP;
    }, ["one", "two", "six"]);
    assert.deepEqual(thrown, [error, true]);
    assert.deepEqual([events[0].pairs(), events[2].pairs()], [[["f", "one"]], [["f", "six"]]]);
    assert.equal(events[1].error.split(" in ")[0], error.split(":")[0]);
  }
});

test("spans may be of all that a batch plugin joins, and empty anywhere", () => {
  class Joins {
    batch(batch, _, out) {
      out.row(batch.event(0)).putSpan(out.fields.add("f"), batch.event(0).start, batch.event(1).end);
      out.keep(0, 2);
    }
  }
  assert.deepEqual(run(Joins, ["a", "b"])[0].pairs(), [["f", "a\nb"]]);
  const empty = (_, row) => {
    row.putSpan(row.fields.add("f"), 0, 0);
    return KEEP;
  };
  assert.deepEqual(run(empty, ["a", "b"]).map((event) => event.pairs()), [[["f", ""]], [["f", ""]]]);
});

test("a date without a clock knows all times but the present one", () => {
  class Own extends Date {}
  const Clockless = withoutClock(Own);
  const message = "there is no clock in the sandbox: take an event's time from its line, or from `event.time`";
  for (const ask of [() => new Clockless(), () => Clockless.now(), () => Clockless(), () => new (new Clockless(0).constructor)()]) {
    assert.throws(ask, { name: "Error", message });
  }
  assert.equal(new Clockless(5).getTime(), 5);
  assert.equal(new Clockless("2024-05-01T00:00:00Z").toISOString(), "2024-05-01T00:00:00.000Z");
  assert.equal(Clockless.UTC(2024, 0), 1_704_067_200_000);
  assert.ok(new Clockless(5) instanceof Clockless);
  class More extends Clockless {}
  assert.ok(new More(5) instanceof More);
});

test("wrong settings are refused in words", () => {
  class Picks {
    static settings = {
      level: s.choice(["a", "b"]),
      most: s.integer({ default: 3 }),
      names: s.list(s.object({ from: s.text(), to: s.text({ optional: true }) }), { default: [] }),
    };
    constructor(settings) {
      this.settings = settings;
    }
    event(_, row) {
      row.put("settings", this.settings);
      return KEEP;
    }
  }
  for (const [settings, expected] of [
    [{ levle: "a" }, "unknown field `levle`, expected one of `level`, `most`, `names`"],
    [{}, "missing field `level`"],
    [{ level: "c" }, 'level: expected one of `a`, `b`, got "c"'],
    [{ level: "a", most: 1.5 }, "most: expected a whole number, got 1.5"],
    [{ level: "a", names: [{ from: "x", too: 1 }] }, "names[0]: unknown field `too`, expected one of `from`, `to`"],
    [{ level: "a", names: [{}] }, "names[0]: missing field `from`"],
    [[], "expected an object, got []"],
  ]) {
    assert.throws(() => run(Picks, ["a"], settings), { message: expected });
  }
  assert.throws(() => run(Picks, ["a"], "{"), /^Error: the settings are not JSON/);
  assert.throws(() => run(picky, ["a"], { x: 1 }), { message: "unknown field `x`, there are no settings" });
  const [event] = run(Picks, ["a"], { level: "b", names: [{ from: "x" }] });
  assert.equal(event.get("settings"), '{"level":"b","most":3,"names":[{"from":"x"}]}');
});

test("a regular expression makes fields of its groups", () => {
  class Level extends RegexPlugin {
    static pattern = [/(?<level>[a-z]+): (?<message>[^ ]*)(?: (?<count>[0-9]+))?/, /(?<level>[A-Z]+)=(?<message>.*)(?<count>)/];
    static kinds = { count: Kind.INTEGER };
    static unescape = { message: (value) => value.replaceAll("\\n", "\n") };
  }
  const events = run(Level, ["warn: disk 7", "a: b\\nc", "X=y z", "nothing", "warn: disk 7 more"]);
  assert.deepEqual(events[0].pairs(), [["level", "warn"], ["message", "disk"], ["count", "7"]]);
  assert.deepEqual(events[1].pairs(), [["level", "a"], ["message", "b\nc"]]);
  assert.deepEqual(events[2].pairs(), [["level", "X"], ["message", "y z"], ["count", ""]]);
  assert.deepEqual([events[3].error, events[4].error], ["the line does not match", "the line does not match"]);
  class Picky extends Level {
    keep(match) {
      return match[1] !== "debug";
    }
  }
  const out = new Harness(Picky).processCells([
    [["content", "text", "debug: x"], ["pod", "text", "p"]],
    [["pod", "text", "p"], ["content", "text", "info: x"]],
  ]);
  assert.deepEqual([out.dropped, out.events[0].pairs()], [1, [["level", "info"], ["message", "x"], ["pod", "p"]]]);
  assert.throws(() => run(class extends RegexPlugin { static pattern = /a/; }, []), /it has no named group/);
});

test("an event keeps the time that it had, unless it is given one", () => {
  const plugin = (event, row) => {
    if (event.text() === "late") row.time(5n);
    return KEEP;
  };
  const events = [[["content", "text", "early"]], [["content", "text", "late"]]];
  const times = (given) => new Harness(plugin).processCells(events, true, given).events.map((event) => event.time);
  assert.deepEqual(times([]), [undefined, 5n]);
  assert.deepEqual(times([7n, 8n]), [7n, 5n]);
});

test("times that nothing changes stay with the host, which has them exactly", () => {
  const last = (plugin, times) => {
    const harness = new Harness(plugin);
    const finish = harness._runner.process.bind(harness._runner);
    let out;
    harness._runner.process = (...input) => (out = finish(...input));
    harness.processCells(["a", "!b", "-c", "d"].map((line) => [["content", "text", line]]), true, times);
    return [...out.times];
  };
  const times = [1700000000123456789n, 2n, 3n, 1700000000987654321n];
  assert.deepEqual(last(picky, times), []);
  const late = (event, row) => {
    if (event.text() === "d") row.time(5n);
    return picky(event, row);
  };
  assert.deepEqual(last(late, times), [times[0], 5n]);
  assert.deepEqual(last(late, []), [-(2n ** 63n), 5n]);
  // One that joins has the time of the row's event, wherever that is among the origins.
  class Last {
    batch(batch, _, out) {
      out.row(batch.event(3));
      out.keep(0, 4);
    }
  }
  assert.deepEqual(last(Last, times), [times[3]]);
});

test("golden files are read as the sandbox reads them", () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-"));
  const put = (name, text) => writeFileSync(join(dir, name), text);
  put("crlf.log", "a\r\n\r\nb\rc\r\nd");
  put("crlf.expected.ndjson", '{"content":"a"}\n{"content":""}\n{"content":"b\\rc"}\n{"content":"d"}\n');
  put("empty.log", "");
  put("empty.expected.ndjson", "");
  const event = '{"a" : 1.50, "b":1E3,"c":12345678901234567890,"d":[1.0, "]"],"e":{"x": -0},"f":"\\u00e9","a":2}';
  put("events.events.ndjson", `${event}\r\n`);
  put("events.expected.ndjson", '{"a":1.50,"b":1E3,"c":12345678901234567890,"d":[1.0, "]"],"e":{"x": -0},"f":"é","a":2}\n');
  const pass = (event, row) => {
    row.passAllBut(event, "");
    return KEEP;
  };
  golden(pass, "p", dir);
  put("lost.log", "x\n");
  assert.throws(() => golden(pass, "p", dir), /lost\.expected\.ndjson/);
  rmSync(join(dir, "lost.log"));
  for (const [line, refusal] of [
    ["[1]", /it is no JSON object/],
    ['{"__tags__":{}}', /`__tags__`: of the names that begin with `__` an event has only __time__/],
    ['{"__time__":"soon"}', /"soon" is not RFC 3339/],
  ]) {
    put("events.events.ndjson", line);
    assert.throws(() => golden(pass, "p", dir), refusal);
  }
  rmSync(dir, { recursive: true });
});

test("times are read as the other SDKs read them", () => {
  const second = 1_136_214_245n * 1_000_000_000n;
  for (const [text, expected] of [
    ["2006-01-02T15:04:05Z", second],
    ["2006-01-02 15:04:05", second],
    ["2006-01-02T22:04:05.25+07:00", second + 250_000_000n],
    ["2006-01-02T15:04:05,123456789987Z", second + 123_456_789n],
    ["1969-12-31T23:59:59Z", -1_000_000_000n],
    ["2006-01-02T15:04:05.Z", undefined],
    ["2006-13-02T15:04:05Z", undefined],
    ["9999-12-31T23:59:59Z", undefined],
  ]) {
    assert.equal(parseRfc3339(text), expected, text);
  }
  assert.equal(parseClf("10/Oct/2000:13:55:36 -0700"), 971_211_336_000_000_000n);
  assert.equal(parseClf("29/Feb/2023:00:00:00 +0000"), undefined);
  assert.equal(timeReader("unix")("1136214245.5"), second + 500_000_000n);
  assert.equal(timeReader("unix_ms")("1136214245123"), 1_136_214_245_123_000_000n);
  assert.equal(timeReader("unix")("99999999999999999999"), undefined);
  assert.throws(() => timeReader("iso"), /time format `iso` is not known/);
});

test("UTF-8 is encoded and decoded", () => {
  for (const text of ["", "a", "é", "€", "😀", "a\u0000b"]) assert.equal(decode(encode(text)), text);
  assert.deepEqual(encode("\ud800"), encode("\ufffd"));
  assert.equal(decode(new Uint8Array([0xc3])), undefined);
});
