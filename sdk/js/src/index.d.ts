/** How a sink may write a cell. The cell's bytes are text in every case. */
export type Kind = "text" | "integer" | "float" | "boolean" | "json";
export const Kind: Readonly<{ TEXT: "text"; INTEGER: "integer"; FLOAT: "float"; BOOLEAN: "boolean"; JSON: "json" }>;

/** The version of the contract that this SDK builds for. */
export const API_VERSION: string;

/** A field that a plugin makes; from `Fields.add`. */
export type FieldId = number & { readonly __field: unique symbol };

/** What can be put into a cell. Nothing is put for `null` and `undefined`. */
export type Value = string | Uint8Array | number | bigint | boolean | object | null | undefined;

/** The fields that a plugin makes. */
export interface Fields {
  /**
   * The field of that name and kind (text unless given); the same one if it exists. A name that may not be a field's,
   * which can only come from data, is changed into one that may.
   */
  add(name: string, kind?: Kind): FieldId;
}

/** One cell of an event. */
export interface Cell {
  /** Index of its field in the batch. */
  field: number;
  name: string;
  kind: Kind;
  /** Where its bytes begin in `Event.data`. */
  start: number;
  /** Where they end. */
  end: number;
}

/** One event: cells of fields. It is yours until `event` returns: the next one is the same object. */
export interface Event {
  /** Its place in the batch. */
  readonly index: number;
  /** Where `content` begins in `data`. */
  readonly start: number;
  /** Where `content` ends in `data`; 0 and 0 if the event has none. */
  readonly end: number;
  /** What all cells of the batch point into. */
  readonly data: Uint8Array;
  /** The same, as a string of one character for each byte: for `indexOf` and regular expressions. */
  readonly binary: string;
  /** The bytes of the field `content`, where a raw line is; none if the event has none. */
  readonly content: Uint8Array;
  /** Whether the event is a raw line and nothing else. */
  readonly isRaw: boolean;
  /** Nanoseconds since the Unix epoch, if known; exact to 256, which is what the sandbox hands in. */
  readonly time: bigint | undefined;
  /** The field `content` as text. If it is not UTF-8 the event fails, with that reason. */
  text(): string;
  /** The first cell of the field with that name, as text. */
  get(name: string): string | undefined;
  /** All cells, in order. */
  cells(): Cell[];
}

/** Events of one source, in order. */
export interface Batch extends Iterable<Event> {
  readonly length: number;
  /** What the cells point into. */
  readonly data: Uint8Array;
  /** The same, as a string of one character for each byte. */
  readonly binary: string;
  /** The source's tags. */
  readonly tags: ReadonlyArray<readonly [string, string]>;
  /** Whether all events are raw lines and nothing else. */
  readonly isRaw: boolean;
  /** The event of that index. */
  event(index: number): Event;
}

/** The open row of an output: where an event's cells are put. */
export interface Row {
  /**
   * Adds a cell of a field, or of the field of that name and of the kind that the value's type says: text for strings
   * and bytes, integer or float, boolean; JSON for objects and arrays. Nothing for `null` and `undefined`.
   */
  put(field: FieldId | string, value: Value): void;
  /**
   * Adds a cell that is a range of `Event.data`: its bytes are pointed at, not copied. A range that leaves the line is an
   * error.
   */
  putSpan(field: FieldId, start: number, end: number): void;
  /** Sets the event's time, in nanoseconds since the Unix epoch. */
  time(nanoseconds: bigint): void;
  /** Adds the cells of the event except those of the field with that name (`content` unless given). */
  passAllBut(event: Event, name?: string): void;
  /** The fields, to name new ones. */
  readonly fields: Fields;
  /** How many cells the row has. */
  readonly length: number;
}

/** The output of a batch, while it is made. */
export interface Out {
  /** Begins an output event that inherits the time of `event`. */
  row(event: Event): Row;
  /** Ends the open row as one output event that came from the input events `first` up to `end`. */
  keep(first: number, end: number): void;
  /** Forgets the open row. Its input event counts as dropped unless it is kept otherwise. */
  forget(): void;
  /** Forgets the open row, and has the input event of that index shipped unchanged, marked with the reason. */
  fail(index: number, reason: string): void;
  /** Has the last so many input events given again, before the next ones. */
  hold(events: number): void;
  /** The fields, to name new ones. */
  readonly fields: Fields;
}

/** The event goes on, with the cells that were put. */
export const KEEP: "keep";
/** The event is left out on purpose, and counted. */
export const DROP: "drop";

/** Why an event could not be processed. The host ships it unchanged, marked with this reason. Keep the reasons few. */
export class Failure extends Error {
  constructor(reason: string);
}

/** The event goes on as it came, marked with this reason. To be returned or thrown; returning is faster. */
export function fail(reason: string): Failure;

/** What becomes of an event. */
export type Fate = typeof KEEP | typeof DROP | Failure;

/** A plugin that looks at one event at a time: the instances of the class that a module exports as its default. */
export interface Plugin {
  /** Puts the event's cells into `row`. What was put is forgotten if the event is dropped or fails. */
  event(event: Event, row: Row): Fate;
}

/** A plugin that looks at a batch at a time: to join events, to split them, or to hold some back. */
export interface BatchPlugin {
  /**
   * Turns the input into output, in order. Each input event must be kept by `Out.keep`, failed by `Out.fail` or held by
   * `Out.hold`; the others count as dropped. `last` says that nothing will follow, so that holding is of no use.
   */
  batch(batch: Batch, last: boolean, out: Out): void;
}

/** One setting: made by `s`. */
export interface Setting<T> {
  readonly doc?: string;
  readonly optional: boolean;
  readonly schema: object;
  read(value: unknown, place: string): T;
}

interface Required {
  /** What it is, for the plugin's user. */
  doc?: string;
}
interface Optional extends Required {
  /** It may be left out, and is `undefined` then. */
  optional: true;
}
interface Defaulting<T> extends Required {
  /** What it is if it is left out. */
  default: T;
}

interface Maker<T> {
  (options: Optional): Setting<T | undefined>;
  (options?: Required | Defaulting<T>): Setting<T>;
}

type Properties = Record<string, Setting<unknown>>;

/** The settings of a class: `Settings<typeof Level.settings>`. */
export type Settings<P> = { [K in keyof P]: P[K] extends Setting<infer T> ? T : never };

/** The types of settings. */
export const s: Readonly<{
  text: Maker<string>;
  integer: Maker<number>;
  number: Maker<number>;
  boolean: Maker<boolean>;
  anything: Maker<unknown>;
  choice<const W extends string>(words: readonly W[], options: Optional): Setting<W | undefined>;
  choice<const W extends string>(words: readonly W[], options?: Required | Defaulting<NoInfer<W>>): Setting<W>;
  list<T>(of: Setting<T>, options: Optional): Setting<T[] | undefined>;
  list<T>(of: Setting<T>, options?: Required | Defaulting<T[]>): Setting<T[]>;
  map<T>(of: Setting<T>, options: Optional): Setting<Record<string, T> | undefined>;
  map<T>(of: Setting<T>, options?: Required | Defaulting<Record<string, T>>): Setting<Record<string, T>>;
  object<P extends Properties>(properties: P, options: Optional): Setting<Settings<P> | undefined>;
  object<P extends Properties>(properties: P, options?: Required | Defaulting<Settings<P>>): Setting<Settings<P>>;
}>;

/** What a parser by a regular expression may be told. */
export interface RegexOptions {
  /**
   * The regular expression, for whole lines: each named group is a field, in their order. It sees bytes, one character
   * each. Several with the same groups are tried in turn: a simple one first, for most lines, is faster than one that
   * does it all.
   */
  pattern?: RegExp | readonly RegExp[];
  /** The kinds of groups that are not text. */
  kinds?: Readonly<Record<string, Kind>>;
  /** The group that has the event's time, and its format: rfc3339, clf, unix, unix_ms, unix_us, unix_ns. */
  time?: readonly [string, string];
  /** What undoes the backslashes in values of a group, as binary strings; called only where there is one. */
  unescape?: Readonly<Record<string, (value: string) => string>>;
  /** The reason of an event that is of another form. */
  mismatch?: string;
}

/** A parser by a regular expression. The options are static properties of a subclass, or given to `super`. */
export class RegexPlugin implements BatchPlugin {
  static pattern?: RegExp | readonly RegExp[];
  static kinds?: Readonly<Record<string, Kind>>;
  static time?: readonly [string, string];
  static unescape?: Readonly<Record<string, (value: string) => string>>;
  static mismatch?: string;
  constructor(settings: unknown, fields: Fields, options?: RegexOptions);
  batch(batch: Batch, last: boolean, out: Out): void;
  /** Whether an event that matches goes on; else it is dropped. Optional: without it, all do. */
  keep?(match: RegExpExecArray): boolean;
}

/** Writes a line to the agent's log, under the plugin's name. */
export function log(level: "debug" | "info" | "warn" | "error", message: string): void;
/** Adds to the counter of that name. The number of names is limited: what is over counts as `other`. */
export function count(name: string, amount?: number): void;
/**
 * The whole content of a file below the granted directory: for the constructor only. The plugin's `package.json` must
 * say `"weir": { "files": true }`.
 */
export function readFile(path: string): Uint8Array;

/** The UTF-8 of a text: the sandbox has no TextEncoder. */
export function encode(text: string): Uint8Array;
/** The text of bytes; `undefined` if they are not UTF-8. The sandbox has no TextDecoder. */
export function decode(bytes: Uint8Array): string | undefined;

/** nginx's and Apache's `02/Jan/2006:15:04:05 -0700`, as nanoseconds since the Unix epoch. */
export function parseClf(text: string): bigint | undefined;
/** RFC 3339 and the common ways to write ISO 8601, as nanoseconds since the Unix epoch. */
export function parseRfc3339(text: string): bigint | undefined;
/** What reads times of a format: rfc3339, clf, unix, unix_ms, unix_us, unix_ns. */
export function timeReader(format: string): (text: string) => bigint | undefined;
