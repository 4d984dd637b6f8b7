// For node's test runner: feed lines to a plugin, natively, and read events back. What the plugin returns is held to
// the contract as the host does, so that a test fails where the host would.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { bytesOf, encode, utf8 } from "./bytes.js";
import { host } from "./host.js";
import { Kind } from "./out.js";
import { pluginOf } from "./plugin.js";
import { Runner } from "./runner.js";
import { formatRfc3339, parseRfc3339 } from "./times.js";
import { CONTENT, UNKNOWN_TIME } from "./wire.js";

/** A plugin with its settings, to be given several batches. */
export class Harness {
  constructor(plugin, settings = {}) {
    this._runner = new Runner(pluginOf(plugin), typeof settings === "string" ? settings : JSON.stringify(settings));
  }

  /** Gives the plugin a batch of raw lines. */
  process(lines, last = true) {
    return this.processCells(lines.map((line) => [[CONTENT, Kind.TEXT, line]]), last);
  }

  /** Gives the plugin a batch of events with these cells. */
  processCells(events, last = true, times = []) {
    const batch = batchOf(events, times);
    return readBack(batch, this._runner.process(batch, last));
  }
}

/** Configures a plugin, gives it these lines as its last batch, and reads the events back. */
export function run(plugin, lines, settings = {}) {
  return new Harness(plugin, settings).process(lines).events;
}

function batchOf(events, times) {
  const batch = { tags: [], fields: [], rows: [], cells: [], times };
  let data = "";
  for (const event of events) {
    for (const [name, kind, value] of event) {
      let field = batch.fields.findIndex((known) => known.name === name && known.kind === kind);
      if (field < 0) field = batch.fields.push({ name, kind }) - 1;
      const start = data.length;
      data += typeof value === "string" ? utf8(value) : Buffer.from(value).toString("latin1");
      batch.cells.push(field, start, data.length);
    }
    data += "\n";
    batch.rows.push(batch.cells.length / 3);
  }
  batch.data = bytesOf(data);
  return batch;
}

function pairsOf(numbers) {
  const pairs = [];
  for (let i = 0; i < numbers.length; i += 2) pairs.push([numbers[i], numbers[i + 1]]);
  return pairs;
}

function readBack(batch, out) {
  const inputs = batch.rows.length;
  assert.ok(out.held >= 0 && out.held <= inputs, `${out.held} events are held, but there were ${inputs}`);
  const fates = new Array(inputs - out.held).fill("dropped");
  const events = [];
  for (const [event, reason] of pairsOf(out.failed)) {
    assert.equal(fates[event], "dropped", `event ${event} fails twice`);
    fates[event] = "failed";
    const cells = rowOf(batch.data, new Uint8Array(0), batch.fields, batch.rows, batch.cells, event);
    events.push(testEvent(cells, [event, event + 1], undefined, out.reasons[reason]));
  }
  let origins = pairsOf(out.origins);
  if (origins.length === 0 && out.rows.length > 0) {
    origins = fates.flatMap((fate, i) => (fate === "failed" ? [] : [[i, i + 1]]));
  }
  assert.equal(origins.length, out.rows.length, "one origin for each event");
  assert.ok([0, out.rows.length].includes(out.times.length), "no time, or one an event");
  origins.forEach(([first, end], row) => {
    assert.ok(first >= 0 && first < end && end <= fates.length, `origin ${first}..${end} of event ${row} is out of bounds`);
    assert.ok(row === 0 || origins[row - 1][0] <= first, `origins decrease at event ${row}`);
    for (let i = first; i < end; i++) {
      assert.notEqual(fates[i], "failed", `event ${row} comes from an event that failed`);
      fates[i] = "kept";
    }
    const cells = rowOf(batch.data, out.made, out.fields, out.rows, out.cells, row);
    const time = out.times.length > 0 ? out.times[row] : (batch.times[first] ?? UNKNOWN_TIME);
    events.push(testEvent(cells, [first, end], time === UNKNOWN_TIME ? undefined : time, undefined));
  });
  events.sort((a, b) => a.origin[0] - b.origin[0]);
  return { events, dropped: fates.filter((fate) => fate === "dropped").length, held: out.held };
}

function testEvent(cells, origin, time, error) {
  return {
    cells,
    origin,
    time,
    error,
    get: (name) => cells.find((cell) => cell.name === name)?.value,
    pairs: () => cells.map(({ name, value }) => [name, value]),
  };
}

function rowOf(data, made, fields, rows, cells, row) {
  const first = row > 0 ? rows[row - 1] : 0;
  const end = rows[row];
  assert.ok(first <= end && 3 * end <= cells.length, `row ${row} has the cells ${first}..${end}, which are not there`);
  const found = [];
  for (let at = 3 * first; at < 3 * end; at += 3) {
    const [number, start, stop] = [cells[at], cells[at + 1], cells[at + 2]];
    const isMade = start >= data.length && start < stop;
    const most = isMade ? data.length + made.length : data.length;
    assert.ok(start <= stop && (stop <= most || start === stop), `a cell of row ${row} leaves its bytes`);
    const bytes = isMade ? made.subarray(start - data.length, stop - data.length) : data.subarray(start, stop);
    const { name, kind } = fields[number];
    const mayBe = name !== "" && encode(name).length <= 256 && !name.startsWith("__");
    assert.ok(mayBe, `no field may be named ${JSON.stringify(name)}`);
    found.push({ name, kind, value: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes) });
  }
  return found;
}

/**
 * Runs all golden cases of a directory: `CASE.log` or `CASE.events.ndjson`, `CASE.settings.json`, and what is expected,
 * `CASE.expected.ndjson`. `CASE.files` is the directory that is granted, if there is one. Errors are written as the
 * host does, behind the plugin's `name`.
 */
export function golden(plugin, name, directory) {
  const nameOf = (file) => /^(.+?)\.(log|events\.ndjson|settings\.json|expected\.ndjson)$/.exec(file)?.[1];
  const cases = new Set(readdirSync(directory).map(nameOf).filter((each) => each !== undefined));
  assert.ok(cases.size > 0, `${directory} has no golden case`);
  const differences = [...cases].sort().map((each) => runCase(plugin, name, directory, each)).join("");
  assert.ok(differences === "", `golden files of ${name}:\n${differences}`);
}

function runCase(plugin, name, directory, each) {
  const path = (ending) => join(directory, `${each}.${ending}`);
  const settings = existsSync(path("settings.json")) ? readFileSync(path("settings.json"), "utf8") : "{}";
  const { readFile } = host;
  if (existsSync(path("files"))) {
    host.readFile = (file) => {
      if (file.startsWith("/") || file.split("/").includes("..")) throw new Error(`${file}: not below the granted directory`);
      return new Uint8Array(readFileSync(join(path("files"), file)));
    };
  }
  let harness;
  try {
    harness = new Harness(plugin, settings);
  } catch (error) {
    throw new assert.AssertionError({ message: `${each}.settings.json: ${error.message}` });
  } finally {
    host.readFile = readFile;
  }
  const out = existsSync(path("log"))
    ? harness.process(linesOf(readFileSync(path("log"))))
    : processEvents(harness, linesOf(readFileSync(path("events.ndjson"))));
  const expected = textLines(readFileSync(path("expected.ndjson"), "utf8"));
  return difference(each, expected, out.events.map((event) => ndjson(name, event)));
}

/** The lines of a file as weir reads them: a carriage return at the end of one is none of it. */
function linesOf(log) {
  return textLines(log.toString("latin1")).map(bytesOf);
}

function textLines(text) {
  if (text === "") return [];
  return (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n").map((line) => line.replace(/\r$/, ""));
}

function processEvents(harness, lines) {
  const events = lines.map((line) => eventOf(Buffer.from(line).toString("utf8")));
  const times = events.map(({ time }) => time);
  const known = times.some((time) => time !== UNKNOWN_TIME);
  return harness.processCells(events.map(({ cells }) => cells), true, known ? times : []);
}

/** An event of the members of a JSON object. Values other than strings stay as they are written. */
function eventOf(line) {
  let time = UNKNOWN_TIME;
  const cells = [];
  for (const [name, json] of membersOf(line)) {
    if (name === "__time__") {
      time = parseRfc3339(String(JSON.parse(json)));
      assert.ok(time !== undefined, `__time__: ${json} is not RFC 3339`);
      continue;
    }
    assert.ok(!name.startsWith("__"), `\`${name}\`: of the names that begin with \`__\` an event has only __time__`);
    if (json === "null") continue;
    if (json[0] === '"') cells.push([name, Kind.TEXT, JSON.parse(json)]);
    else if (json === "true" || json === "false") cells.push([name, Kind.BOOLEAN, json]);
    else if (json[0] === "[" || json[0] === "{") cells.push([name, Kind.JSON, json]);
    else cells.push([name, /[.eE]/.test(json) ? Kind.FLOAT : Kind.INTEGER, json]);
  }
  return { cells, time };
}

/** The members of a JSON object in their order, their values as they are written. */
function membersOf(line) {
  let value;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  assert.ok(isObject, `it is no JSON object: ${line}`);
  // It is JSON, so that its tokens need not be checked.
  const tokens = line.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s"[\]{}:,]+/g);
  const members = [];
  let [depth, name, start] = [0, undefined, undefined];
  for (const { 0: token, index } of tokens) {
    if (depth === 1 && (token === "," || token === "}")) {
      if (name !== undefined) members.push([name, line.slice(start, index).trim()]);
      name = undefined;
    } else if (depth === 1 && name === undefined) {
      name = JSON.parse(token);
      start = undefined;
    } else if (depth === 1 && start === undefined) {
      // The colon.
      start = index + 1;
    }
    if (token === "{" || token === "[") depth += 1;
    if (token === "}" || token === "]") depth -= 1;
  }
  return members;
}

function difference(each, expected, actual) {
  let out = "";
  for (let i = 0; i < Math.max(expected.length, actual.length); i++) {
    const [wanted, got] = [expected[i] ?? "(nothing)", actual[i] ?? "(nothing)"];
    if (wanted !== got) out += `${each}, event ${i + 1}:\n  expected ${wanted}\n       got ${got}\n`;
  }
  return out;
}

/** An event as weir's NDJSON encoder writes it. */
function ndjson(plugin, event) {
  const pairs = event.cells.map(({ name, kind, value }) => {
    return `${JSON.stringify(name)}:${isPlain(kind, value) ? value : JSON.stringify(value)}`;
  });
  if (event.time !== undefined) pairs.push(`"__time__":"${formatRfc3339(event.time)}"`);
  if (event.error !== undefined) pairs.push(`"__error__":${JSON.stringify(`${plugin}: ${event.error}`)}`);
  return `{${pairs.join(",")}}`;
}

/** Whether the value is JSON of its kind, so that it is not quoted. */
function isPlain(kind, value) {
  switch (kind) {
    case Kind.INTEGER:
      return /^-?(0|[1-9][0-9]*)$/.test(value);
    case Kind.FLOAT:
      return /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(value);
    case Kind.BOOLEAN:
      return value === "true" || value === "false";
    case Kind.JSON:
      try {
        JSON.parse(value);
        return value.trim() === value;
      } catch {
        return false;
      }
    default:
      return false;
  }
}
