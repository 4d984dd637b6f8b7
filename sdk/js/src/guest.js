// The component's two functions; imported only inside of one. `weir plugin build` makes its main module.

import { write } from "weir:plugin/log@0.1.0";
import { add } from "weir:plugin/count@0.1.0";
import { withoutClock } from "./clock.js";
import { host } from "./host.js";
import { pluginOf, said } from "./plugin.js";
import { Runner } from "./runner.js";

host.log = (level, message) => write(level, message.toWellFormed());
host.count = add;

const line = (level) => (...values) => host.log(level, values.map((value) => String(value)).join(" "));
globalThis.console ??= {
  debug: line("debug"),
  log: line("info"),
  info: line("info"),
  warn: line("warn"),
  error: line("error"),
};

/** What the component exports, of the default export of the author's module. */
export function processorOf(exported) {
  const plugin = pluginOf(exported);
  let runner;
  return {
    configure(settings) {
      // Not before: while the plugin is built there is a clock, and packages may ask it when they are loaded.
      if (runner === undefined) {
        globalThis.Date = withoutClock(Date);
        Reflect.deleteProperty(globalThis, "performance");
      }
      try {
        runner = new Runner(plugin, settings);
      } catch (error) {
        throw error instanceof Error ? error.message : String(error);
      }
    },
    process(input, last) {
      try {
        return runner.process(input, last);
      } catch (error) {
        said(error);
        throw error;
      }
    },
  };
}
