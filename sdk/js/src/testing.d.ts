import type { BatchPlugin, Event, Fate, Fields, Kind, Plugin, Row } from "./index.js";

/** What a module may export as its default. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Exported = (new (settings: any, fields: Fields) => Plugin | BatchPlugin) | ((event: Event, row: Row) => Fate);

/** An event that came out. */
export interface TestEvent {
  /** Name, kind and value of each cell; bytes that are not UTF-8 are replaced. */
  cells: { name: string; kind: Kind; value: string }[];
  /** The input events that it came from: the first, and the one after the last. */
  origin: [number, number];
  /** Nanoseconds since the Unix epoch. */
  time: bigint | undefined;
  /** Why it was shipped unchanged, if it failed. */
  error: string | undefined;
  /** The value of the first cell of that field. */
  get(name: string): string | undefined;
  /** Names and values of all cells. */
  pairs(): [string, string][];
}

/** What became of a batch. */
export interface Processed {
  /** Kept and failed events, in the order in which the host ships them. */
  events: TestEvent[];
  /** Input events that were dropped on purpose. */
  dropped: number;
  /** Input events at the end that are held. */
  held: number;
}

/** A plugin with its settings, to be given several batches. */
export class Harness {
  constructor(plugin: Exported, settings?: object | string);
  /** Gives the plugin a batch of raw lines. */
  process(lines: (string | Uint8Array)[], last?: boolean): Processed;
  /** Gives the plugin a batch of events with these cells. */
  processCells(events: [string, Kind, string | Uint8Array][][], last?: boolean, times?: bigint[]): Processed;
}

/** Configures a plugin, gives it these lines as its last batch, and reads the events back. */
export function run(plugin: Exported, lines: (string | Uint8Array)[], settings?: object | string): TestEvent[];

/**
 * Runs all golden cases of a directory: `CASE.log` or `CASE.events.ndjson`, `CASE.settings.json`, and what is expected,
 * `CASE.expected.ndjson`. Errors are written as the host does, behind the plugin's `name`.
 */
export function golden(plugin: Exported, name: string, directory: string): void;
