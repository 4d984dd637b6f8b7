// What an author implements: a class with `event` or `batch`, or a function of an event and a row.

import { Event } from "./event.js";
import { Failure } from "./failure.js";
import { host } from "./host.js";
import { settingsReader } from "./settings.js";

export { Failure };

/** The event goes on, with the cells that were put. */
export const KEEP = "keep";
/** The event is left out on purpose, and counted. */
export const DROP = "drop";

/** The event goes on as it came, marked with this reason. To be returned or thrown; returning is faster. */
export function fail(reason) {
  const known = failures.get(reason);
  if (known !== undefined) return known;
  if (failures.size >= 256) failures.clear();
  const failure = new Failure(reason);
  failures.set(reason, failure);
  return failure;
}

const failures = new Map();

/** What is behind the default export of a plugin's module: how to make it, and how its settings are read. */
export function pluginOf(exported) {
  if (typeof exported !== "function") {
    throw new Error("the module has no plugin: `export default` a class with `event`, or a function");
  }
  const { prototype } = exported;
  if (typeof prototype?.batch === "function" || typeof prototype?.event === "function") {
    return {
      settings: settingsReader(exported.settings ?? {}),
      make: (settings, fields) => {
        const plugin = new exported(settings, fields);
        const batch = plugin.batch ?? ((batch, _, out) => oneAtATime((event, row) => plugin.event(event, row), batch, out));
        return batch.bind(plugin);
      },
    };
  }
  if (/^class\b/.test(Function.prototype.toString.call(exported))) {
    throw new Error(`the class ${exported.name} has neither \`event\` nor \`batch\``);
  }
  return {
    settings: settingsReader(exported.settings ?? {}),
    make: () => (batch, _, out) => oneAtATime(exported, batch, out),
  };
}

/** Gives each event of a batch to a function, and does what it says. */
export function oneAtATime(process, batch, out) {
  const event = new Event(batch);
  const row = out._row;
  for (let i = 0; i < batch.length; i++) {
    event._move(i);
    if (batch.isRaw) row._within(event.start, event.end);
    let fate;
    try {
      fate = process(event, out.row(event));
    } catch (error) {
      fate = error instanceof Failure ? error : new Failure(said(error));
    }
    if (fate === KEEP) out.keep(i, i + 1);
    else if (fate === DROP) out.forget();
    else if (fate instanceof Failure) out.fail(i, fate.message);
    else out.fail(i, `neither KEEP nor DROP was returned, but ${typeof fate}`);
  }
  row._within(0, out._base);
}

const seen = new Set();

/** The reason of an event on which its plugin has a bug. Where it came from is logged, once for each place. */
export function said(error) {
  if (!(error instanceof Error)) return `thrown: ${typeof error}`;
  const stack = String(error.stack ?? "");
  const places = stack.split("\n").filter((line) => line.includes("    at "));
  const place = places[0]?.trim() ?? "";
  if (!seen.has(place) && seen.size < 256) {
    seen.add(place);
    host.log("error", `${error.name}: ${error.message}\n${places.join("\n")}`);
  }
  const name = /at (\S+) \(/.exec(place)?.[1];
  return name ? `${error.name} in ${name}` : error.name;
}
