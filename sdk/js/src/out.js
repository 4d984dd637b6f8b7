// What goes out: fields, cells, and what became of each input event.

import { binary, bytesOf, utf8 } from "./bytes.js";
import { mistake } from "./mistake.js";
import { CONTENT, UNKNOWN_TIME } from "./wire.js";

/** How a sink may write a cell. The cell's bytes are text in every case. */
export const Kind = Object.freeze({
  TEXT: "text",
  INTEGER: "integer",
  FLOAT: "float",
  BOOLEAN: "boolean",
  JSON: "json",
});

const NAME_BYTES = 256;
const LAST_TIME = -UNKNOWN_TIME - 1n;

/** The fields that a plugin makes. */
export class Fields {
  constructor() {
    this.list = [];
    this._index = new Map();
    this._fixed = 0;
  }

  /** The field of that name and kind; the same one if it exists. */
  add(name, kind = Kind.TEXT) {
    const key = `${kind} ${name}`;
    let field = this._index.get(key);
    if (field === undefined) {
      if (!Object.values(Kind).includes(kind)) throw new Error(`there is no kind \`${kind}\``);
      const allowed = Fields.allowed(name);
      field = allowed === name ? undefined : this._index.get(`${kind} ${allowed}`);
      field ??= this.list.push({ name: allowed, kind }) - 1;
      this._index.set(`${kind} ${allowed}`, field);
    }
    return field;
  }

  /** The name itself, if it may be a field's; else one that may. */
  static allowed(name) {
    if (name.startsWith("__")) name = `_${name.replace(/^_+/, "")}`;
    name = name.toWellFormed();
    if (name.length > NAME_BYTES / 3) {
      while (utf8(name).length > NAME_BYTES) name = name.slice(0, -1).toWellFormed().replace(/\ufffd$/, "");
    }
    return name || "_";
  }

  /** Refuses a name that a user has chosen, if it may not be a field's. */
  static check(name) {
    if (name === "") throw new Error("a field's name must not be empty");
    if (name.startsWith("__")) throw new Error(`field \`${name}\`: names that begin with \`__\` belong to the host`);
  }

  _fix() {
    this._fixed = this.list.length;
  }

  _isOver(most) {
    return this.list.length - this._fixed > most;
  }
}

/** Numbers that are appended to: the sandbox takes typed arrays as they are, and lists one by one. */
class Numbers {
  constructor(size) {
    this.array = new Uint32Array(Math.max(size, 64));
    this.length = 0;
  }

  /** Makes room for so many more. */
  reserve(more) {
    if (this.length + more > this.array.length) {
      const grown = new Uint32Array(2 * (this.length + more));
      grown.set(this.array.subarray(0, this.length));
      this.array = grown;
    }
  }

  push(number) {
    if (this.length === this.array.length) this.reserve(1);
    this.array[this.length++] = number;
  }

  finish() {
    return this.array.slice(0, this.length);
  }
}

/** The output of a batch, while it is made. */
export class Out {
  constructor(fields, input, sizes = { cells: 0 }) {
    this.fields = fields;
    this._input = input;
    this._base = input.data.length;
    this._cells = new Numbers(sizes.cells);
    this._rows = new Numbers(input.length);
    this._made = "";
    this._times = undefined;
    this._origins = [];
    this._failed = [];
    this._reasons = new Map();
    this._held = 0;
    // Where the open row began.
    this._rowCells = 0;
    this._rowMade = 0;
    // The time that the open row was given, and the input event whose time it has otherwise.
    this._rowTime = undefined;
    this._rowFrom = -1;
    // Output events so far are one to one with the input events that neither failed nor were held.
    this._oneToOne = true;
    // The input events before this one have been kept or have failed.
    this._next = 0;
    this._row = new Row(this);
  }

  /** Begins an output event that inherits the time of `event`. */
  row(event) {
    this._rowFrom = event.index;
    return this._row;
  }

  /** Ends the open row as one output event that came from the input events `first` up to `end`. */
  keep(first, end) {
    const isGiven = this._rowTime !== undefined || (this._rowFrom !== first && this._input._times.length > 0);
    if (isGiven || this._times !== undefined) this._keepTime(first);
    if (this._oneToOne && (first !== this._next || end !== first + 1)) this._listOrigins();
    if (!this._oneToOne) this._origins.push(first, end);
    this._next = end;
    this._rowCells = this._cells.length;
    this._rowMade = this._made.length;
    this._rows.push(this._rowCells / 3);
  }

  /**
   * Keeps the open row's time. As long as each output event has that of its first input event nothing is kept: the
   * host has these times exactly, and what the sandbox hands in is exact to 256 nanoseconds.
   */
  _keepTime(first) {
    if (this._times === undefined) {
      this._times = new BigInt64Array(this._input.length + 64).fill(UNKNOWN_TIME);
      const origins = this._oneToOne ? this._kept() : this._origins;
      for (let row = 0; row < this._rows.length; row++) this._times[row] = this._input._timeOf(origins[2 * row]);
    }
    if (this._rows.length === this._times.length) {
      const grown = new BigInt64Array(2 * this._times.length).fill(UNKNOWN_TIME);
      grown.set(this._times);
      this._times = grown;
    }
    this._times[this._rows.length] = this._rowTime ?? this._input._timeOf(this._rowFrom < 0 ? first : this._rowFrom);
    this._rowTime = undefined;
  }

  /** Forgets the open row. Its input event counts as dropped unless it is kept otherwise. */
  forget() {
    this._cells.length = this._rowCells;
    if (this._made.length > this._rowMade) this._made = this._made.slice(0, this._rowMade);
    this._rowTime = undefined;
  }

  /** Forgets the open row, and has the input event of that index shipped unchanged, marked with the reason. */
  fail(index, reason) {
    this.forget();
    if (this._oneToOne && index !== this._next) this._listOrigins();
    this._next = index + 1;
    if (!this._reasons.has(reason)) this._reasons.set(reason, this._reasons.size);
    this._failed.push(index, this._reasons.get(reason));
  }

  /** Has the last so many input events given again, before the next ones. */
  hold(events) {
    this.forget();
    this._held = events;
  }

  _listOrigins() {
    this._oneToOne = false;
    this._origins = this._kept();
  }

  /** The origins of output events that are one to one with the input events so far that did not fail. */
  _kept() {
    const failed = new Set(this._failed.filter((_, i) => i % 2 === 0));
    const origins = [];
    for (let i = 0; i < this._next; i++) if (!failed.has(i)) origins.push(i, i + 1);
    return origins;
  }

  _finish() {
    if (this._oneToOne && this._next < this._input.length - this._held) {
      // The events after the last kept one were dropped.
      this._origins = this._kept();
    }
    return {
      made: bytesOf(this._made),
      fields: this.fields.list,
      rows: this._rows.finish(),
      cells: this._cells.finish(),
      times: this._times === undefined ? new BigInt64Array(0) : this._times.slice(0, this._rows.length),
      origins: Uint32Array.from(this._origins),
      reasons: [...this._reasons.keys()].map((reason) => reason.toWellFormed()),
      failed: Uint32Array.from(this._failed),
      held: this._held,
    };
  }
}

/** The open row of an output: where an event's cells are put. */
export class Row {
  constructor(out) {
    this._out = out;
    this._within(0, out._base);
  }

  /** Says where spans may lie. */
  _within(first, end) {
    this._first = first;
    this._end = end;
  }

  /** Adds a cell of a field, or of the field of that name and of the kind that the value's type says. */
  put(field, value) {
    let kind = Kind.TEXT;
    let bytes;
    switch (typeof value) {
      case "string":
        bytes = utf8(value);
        break;
      case "number":
        kind = Number.isSafeInteger(value) ? Kind.INTEGER : Kind.FLOAT;
        bytes = Object.is(value, -0) ? "0" : String(value);
        break;
      case "bigint":
        kind = Kind.INTEGER;
        bytes = String(value);
        break;
      case "boolean":
        kind = Kind.BOOLEAN;
        bytes = String(value);
        break;
      case "undefined":
        return;
      default:
        if (value === null) return;
        if (value instanceof Uint8Array) {
          bytes = binary(value);
        } else {
          kind = Kind.JSON;
          bytes = utf8(JSON.stringify(value));
        }
    }
    const out = this._out;
    if (typeof field === "string") field = out.fields.add(field, kind);
    this._make(field, bytes);
  }

  /** Adds a cell of bytes that are a binary string. */
  _make(field, bytes) {
    const out = this._out;
    const start = out._base + out._made.length;
    out._made += bytes;
    this._cell(field, start, out._base + out._made.length);
  }

  /**
   * Adds a cell that is a range of `event.data`: its bytes are pointed at, not copied. A range that leaves the line is an
   * error.
   */
  putSpan(field, start, end) {
    // What is wrong here is refused by the host, which does not know the plugin's function.
    if (typeof field !== "number") {
      throw mistake(`a field is what \`fields.add\` returned, not a ${typeof field}`, this.putSpan, TypeError);
    }
    const isEmpty = start === end && start >= 0 && end <= this._out._base;
    if (!(this._first <= start && start <= end && end <= this._end) && !isEmpty) {
      const bytes = `${this._first} to ${this._end}`;
      throw mistake(`the span from ${start} to ${end} leaves the event's bytes, ${bytes}`, this.putSpan, RangeError);
    }
    this._cell(field, start, end);
  }

  _cell(field, start, end) {
    const cells = this._out._cells;
    if (cells.length + 3 > cells.array.length) cells.reserve(3);
    const { array, length } = cells;
    array[length] = field;
    array[length + 1] = start;
    array[length + 2] = end;
    cells.length = length + 3;
  }

  /** Sets the event's time, in nanoseconds since the Unix epoch: a BigInt. */
  time(nanoseconds) {
    let time = nanoseconds;
    if (typeof time !== "bigint") {
      try {
        time = BigInt(time);
      } catch {
        throw mistake(`a time is a BigInt of nanoseconds, not ${nanoseconds}`, this.time, TypeError);
      }
    }
    if (time < UNKNOWN_TIME || time > LAST_TIME) {
      throw mistake(`the time ${time} has more than 64 bits: it is in nanoseconds since 1970`, this.time, RangeError);
    }
    this._out._rowTime = time;
  }

  /** Adds the cells of the event except those of the field with that name. */
  passAllBut(event, name = CONTENT) {
    if (this._out._input.isRaw && name === CONTENT) return;
    for (const cell of event.cells()) {
      if (cell.name !== name) this._cell(this._out.fields.add(cell.name, cell.kind), cell.start, cell.end);
    }
  }

  /** The fields, to name new ones. */
  get fields() {
    return this._out.fields;
  }

  /** How many cells the row has. */
  get length() {
    return (this._out._cells.length - this._out._rowCells) / 3;
  }
}
