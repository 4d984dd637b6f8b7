// Parses lines such as `2024-05-01T12:00:00Z I checkout 12ms order 7 is paid`.
// The same in TypeScript: name this file index.ts, and say so in package.json.

import { DROP, KEEP, Kind, fail, parseRfc3339, s } from "weir-plugin";

const LEVELS = new Map([["D", "debug"], ["I", "info"], ["W", "warn"], ["E", "error"]]);

/** @implements {import("weir-plugin").Plugin} */
export default class Parser {
  /** What the plugin's user may set. */
  static settings = {
    drop: s.choice(["debug", "info", "warn", "error"], {
      optional: true,
      doc: "Lines of this level are left out: debug, info, warn or error.",
    }),
  };

  /**
   * @param {import("weir-plugin").Settings<typeof Parser.settings>} settings
   * @param {import("weir-plugin").Fields} fields
   */
  constructor(settings, fields) {
    this.drop = settings.drop;
    this.level = fields.add("level");
    this.service = fields.add("service");
    this.duration = fields.add("duration_ms", Kind.INTEGER);
    this.message = fields.add("message");
  }

  /**
   * @param {import("weir-plugin").Event} event
   * @param {import("weir-plugin").Row} row
   */
  event(event, row) {
    const line = event.text();
    const parts = line.split(" ", 4);
    const message = parts.join(" ").length + 1;
    if (parts.length < 4 || message > line.length) return fail("not TIME LEVEL SERVICE DURATION MESSAGE");
    const [when, letter, service, duration] = parts;
    const level = LEVELS.get(letter);
    if (level === undefined) return fail("no such level");
    if (level === this.drop) return DROP;
    if (!/^[0-9]+ms$/.test(duration)) return fail("no such duration");
    const time = parseRfc3339(when);
    if (time === undefined) return fail("no such time");
    row.time(time);
    row.put(this.level, level);
    row.put(this.service, service);
    row.put(this.duration, duration.slice(0, -2));
    row.put(this.message, line.slice(message));
    row.passAllBut(event); // what an earlier plugin has found
    return KEEP;
  }
}
