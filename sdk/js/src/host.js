// What the sandbox offers: a log, counters, and files if the agent's configuration grants them.

import { mistake } from "./mistake.js";

const LEVELS = ["debug", "info", "warn", "error"];

/** What does it: outside of the sandbox, in tests, the log goes to standard error and counters are kept. */
export const host = {
  counters: {},
  log: (level, message) => console.error(`${level}: ${message}`),
  count: (name, amount) => {
    host.counters[name] = (host.counters[name] ?? 0) + amount;
  },
  readFile: (path) => {
    throw new Error(`${path}: no files are granted`);
  },
};

/** Writes a line to the agent's log, under the plugin's name. */
export function log(level, message) {
  if (!LEVELS.includes(level)) throw mistake(`there is no level \`${level}\`: use debug, info, warn or error`, log);
  host.log(level, String(message));
}

/** Adds to the counter of that name. */
export function count(name, amount = 1) {
  const isWhole = typeof amount === "bigint" || Number.isSafeInteger(amount);
  if (!isWhole || amount < 0) throw mistake(`a counter goes up by whole numbers, and not by ${amount}`, count);
  host.count(String(name), amount);
}

/** The whole content of a file below the granted directory: for the constructor only. */
export function readFile(path) {
  return host.readFile(path);
}
