/**
 * Write parsers and filters for weir: a class or a function for one event, which the module exports as its default.
 *
 * Rooms: `plugin` what an author implements, `event` what comes in, `out` what goes out, `regex` the fast way by a
 * regular expression, `settings` what a plugin's user may set, `times` from text to nanoseconds, `bytes` UTF-8, `host`
 * what the sandbox offers, `clock` what it does not, `testing` for node's test runner, `guest` and `describe` the glue
 * of `weir plugin build`.
 */

export { decode, encode } from "./bytes.js";
export { count, log, readFile } from "./host.js";
export { DROP, KEEP, Failure, fail } from "./plugin.js";
export { Kind } from "./out.js";
export { RegexPlugin } from "./regex.js";
export { s } from "./settings.js";
export { parseClf, parseRfc3339, timeReader } from "./times.js";
export { API_VERSION } from "./wire.js";
