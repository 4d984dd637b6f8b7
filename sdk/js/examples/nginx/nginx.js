// nginx access logs in the formats `combined` and `main`, as weir's own plugin `nginx` parses them.

import { Kind, RegexPlugin, s } from "weir-plugin";
import { unescape } from "./unescape.js";

/** What ends where a character is first met with the rest behind it. */
const until = (stop, rest) => `[^${stop}]*(?:${stop}(?!${rest})[^${stop}]*)*`;

/** What ends at a quote with the rest behind it. A backslash escapes. */
const quoted = (rest) => `[^"\\\\]*(?:(?:\\\\.|"(?!${rest || "[^]"}))[^"\\\\]*)*`;

/** A group that does not go back over what it has matched: a line of another form fails soon. */
const firm = (name, source) => `(?=(?<${name}>${source}))\\k<${name}>`;
const loose = (name, source) => `(?<${name}>${source})`;

const combined = (group, address, user, time, uri, request, sent, referer, agent) =>
  `${group("remote_addr", address)} - ${group("remote_user", user)} \\[${group("time_local", time)}\\] ` +
  `"(?:(?<request_method>[^ "\\\\]*) (?<request_uri>${uri}) (?<server_protocol>HTTP/[^ "\\\\]*)|${group("request", request)})" ` +
  `(?<status>[^ ]*) ${group("body_bytes_sent", sent)} "${group("http_referer", referer)}" "${group("http_user_agent", agent)}"`;
const forwarded = (group, value) => ` "${group("http_x_forwarded_for", value)}"`;

// Nearly all lines are of the simple form, which is matched faster.
const [WORD, TEXT] = ["[^ ]*", '[^"\\\\]*'];
const SIMPLE = combined(loose, WORD, WORD, "[^\\]]*", TEXT, TEXT, WORD, TEXT, TEXT);
const any = (agent) =>
  combined(
    firm,
    until(" ", "- "),
    until(" ", "\\["),
    until("\\]", ' "'),
    quoted(" "),
    quoted(" "),
    until(" ", '"'),
    quoted(' "'),
    agent,
  );
const LAST = '[^"\\\\]*(?:\\\\.[^"\\\\]*)*';
const FORMATS = {
  combined: [SIMPLE, any(LAST)],
  main: [SIMPLE + forwarded(loose, TEXT), any(quoted(' "')) + forwarded(firm, LAST)],
};

const QUOTED = ["request_method", "request_uri", "server_protocol", "request", "http_referer", "http_user_agent"];

export default class Nginx extends RegexPlugin {
  static settings = {
    format: s.choice(["combined", "main"], { default: "combined", doc: "Which of the formats that nginx comes with." }),
    unescape: s.boolean({ default: true, doc: "Whether the escapes of nginx and of JSON in quoted values are undone." }),
  };
  static kinds = { status: Kind.INTEGER, body_bytes_sent: Kind.INTEGER };
  static time = ["time_local", "clf"];

  constructor(settings, fields) {
    const names = settings.format === "main" ? [...QUOTED, "http_x_forwarded_for"] : QUOTED;
    super(settings, fields, {
      pattern: FORMATS[settings.format].map((source) => new RegExp(source, "s")),
      unescape: settings.unescape ? Object.fromEntries(names.map((name) => [name, unescape])) : {},
    });
  }
}
