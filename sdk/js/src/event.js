// What comes in: a batch, and one event of it.

import { binary, textOf } from "./bytes.js";
import { CONTENT, UNKNOWN_TIME } from "./wire.js";
import { Failure } from "./failure.js";

/** Events of one source, in order. */
export class Batch {
  constructor(wire) {
    this.data = wire.data;
    this.tags = wire.tags;
    this._fields = wire.fields;
    this._rows = wire.rows;
    this._cells = wire.cells;
    this._times = wire.times;
    this._content = wire.fields.findIndex((field) => field.name === CONTENT);
    this.isRaw = wire.fields.length === 1 && this._content === 0 && oneEach(wire.rows, wire.cells);
    this._binary = undefined;
  }

  /** What the cells point into, as a string of one character for each byte. */
  get binary() {
    return (this._binary ??= binary(this.data));
  }

  get length() {
    return this._rows.length;
  }

  /** The time of the event of that index: a BigInt, also if it is unknown. */
  _timeOf(index) {
    const time = this._times[index];
    // As a double, what is unknown is exact.
    return time === undefined ? UNKNOWN_TIME : BigInt(time);
  }

  /** The event of that index. */
  event(index) {
    const event = new Event(this);
    event._move(index);
    return event;
  }

  *[Symbol.iterator]() {
    for (let i = 0; i < this.length; i++) yield this.event(i);
  }
}

function oneEach(rows, cells) {
  if (cells.length !== 3 * rows.length) return false;
  for (let i = 0; i < rows.length; i++) if (rows[i] !== i + 1) return false;
  return true;
}

/** One event: cells of fields. It is yours until `event` returns: the next one is the same object. */
export class Event {
  constructor(batch) {
    this._batch = batch;
    this.index = 0;
    this.start = 0;
    this.end = 0;
  }

  _move(index) {
    const batch = this._batch;
    const cells = batch._cells;
    this.index = index;
    if (batch.isRaw) {
      this.start = cells[3 * index + 1];
      this.end = cells[3 * index + 2];
      return;
    }
    this.start = this.end = 0;
    for (let at = this._first(); at < 3 * batch._rows[index]; at += 3) {
      if (cells[at] === batch._content) {
        this.start = cells[at + 1];
        this.end = cells[at + 2];
        return;
      }
    }
  }

  _first() {
    return this.index === 0 ? 0 : 3 * this._batch._rows[this.index - 1];
  }

  /** What all cells of the batch point into. */
  get data() {
    return this._batch.data;
  }

  /** The same, as a string of one character for each byte. */
  get binary() {
    return this._batch.binary;
  }

  /** The bytes of the field `content`, where a raw line is; none if the event has none. */
  get content() {
    return this._batch.data.subarray(this.start, this.end);
  }

  /** The field `content` as text. If it is not UTF-8 the event fails, with that reason. */
  text() {
    const text = textOf(this._batch.binary.slice(this.start, this.end));
    if (text === undefined) throw new Failure("not UTF-8");
    return text;
  }

  /** The first cell of the field with that name as text: `undefined` if there is none. */
  get(name) {
    const cell = this.cells().find((cell) => cell.name === name);
    if (cell === undefined) return undefined;
    const text = textOf(this._batch.binary.slice(cell.start, cell.end));
    if (text === undefined) throw new Failure("not UTF-8");
    return text;
  }

  /** All cells, in order. */
  cells() {
    const { _cells, _fields, _rows } = this._batch;
    const cells = [];
    for (let at = this._first(); at < 3 * _rows[this.index]; at += 3) {
      const { name, kind } = _fields[_cells[at]];
      cells.push({ field: _cells[at], name, kind, start: _cells[at + 1], end: _cells[at + 2] });
    }
    return cells;
  }

  /** Whether the event is a raw line and nothing else. */
  get isRaw() {
    const first = this._first();
    return 3 * this._batch._rows[this.index] === first + 3 && this._batch._cells[first] === this._batch._content;
  }

  /** Nanoseconds since the Unix epoch, if known; as the sandbox hands them in, exact to 256. */
  get time() {
    const time = this._batch._timeOf(this.index);
    return time === UNKNOWN_TIME ? undefined : time;
  }
}
