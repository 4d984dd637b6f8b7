// The fast way: one regular expression, whose named groups are the fields. The output is made of the groups' places,
// without a text for each.

import { utf8 } from "./bytes.js";
import { CONTENT } from "./wire.js";
import { DROP, KEEP, fail, oneAtATime } from "./plugin.js";
import { timeReader } from "./times.js";

/** A parser by a regular expression, which must match the whole line: each named group is a field. */
export class RegexPlugin {
  constructor(settings, fields, options = {}) {
    const own = new.target;
    const { pattern = own.pattern, kinds = own.kinds ?? {}, time = own.time, unescape = own.unescape ?? {} } = options;
    this._mismatch = fail(options.mismatch ?? own.mismatch ?? "the line does not match");
    const compiled = [pattern].flat().map(compile);
    const { names } = compiled[0];
    for (const other of compiled) {
      if (other.names.join() !== names.join()) throw new Error("pattern: the groups of all patterns must be the same");
    }
    for (const name of [...Object.keys(kinds), ...Object.keys(unescape), ...(time ? [time[0]] : [])]) {
      if (!names.includes(name)) throw new Error(`pattern: it has no group \`${name}\``);
    }
    this._regexes = compiled.map(({ regex }) => regex);
    this._groups = names.flatMap((name, group) => (name ? [group] : []));
    this._fields = this._groups.map((group) => fields.add(names[group], kinds[names[group]]));
    this._unescape = this._groups.map((group) => unescape[names[group]]);
    this._time = time ? { group: names.indexOf(time[0]), read: timeReader(time[1]) } : undefined;
  }

  batch(batch, last, out) {
    const text = batch.binary;
    const mayEscape = this._unescape.some((undo) => undo) && text.includes("\\");
    if (this.keep === undefined && batch.isRaw) {
      const [cells, row] = [batch._cells, out._row];
      for (let i = 0, at = 1; i < batch.length; i++, at += 3) {
        const start = cells[at];
        const match = this._match(text.slice(start, cells[at + 1]));
        if (match === null) {
          out.fail(i, this._mismatch.message);
        } else {
          out._rowFrom = i;
          this._put(match, start, row, mayEscape);
          out.keep(i, i + 1);
        }
      }
      return;
    }
    const process = (event, row) => {
      const match = this._match(text.slice(event.start, event.end));
      if (match === null) return this._mismatch;
      if (this.keep !== undefined && !this.keep(match)) return DROP;
      this._put(match, event.start, row, mayEscape);
      row.passAllBut(event, CONTENT);
      return KEEP;
    };
    oneAtATime(process, batch, out);
  }

  _match(line) {
    for (const regex of this._regexes) {
      const match = regex.exec(line);
      if (match !== null) return match;
    }
    return null;
  }

  _put(match, offset, row, mayEscape) {
    const { indices } = match;
    const [groups, fields, undo, cells] = [this._groups, this._fields, this._unescape, row._out._cells];
    const count = groups.length;
    cells.reserve(3 * count);
    const { array } = cells;
    let at = cells.length;
    for (let k = 0; k < count; k++) {
      const span = indices[groups[k]];
      if (span === undefined) continue;
      if (mayEscape && undo[k] !== undefined && match[groups[k]].includes("\\")) {
        cells.length = at;
        row._make(fields[k], undo[k](match[groups[k]]));
        at += 3;
        continue;
      }
      array[at++] = fields[k];
      array[at++] = offset + span[0];
      array[at++] = offset + span[1];
    }
    cells.length = at;
    if (this._time !== undefined) {
      const text = match[this._time.group];
      const time = text === undefined ? undefined : this._time.read(text);
      if (time !== undefined) row._out._rowTime = time;
    }
  }
}

/** An expression for whole lines, and the names of its groups by their numbers. Unnamed groups are much faster. */
function compile(pattern) {
  if (!(pattern instanceof RegExp)) throw new Error("pattern: give a regular expression, such as /(?<level>[a-z]+): .*/");
  const names = [undefined];
  let source = "";
  let isClass = false;
  for (let at = 0; at < pattern.source.length; at++) {
    const char = pattern.source[at];
    const named = !isClass && /^\(\?<([^=!>][^>]*)>/.exec(pattern.source.slice(at, at + 300));
    if (char === "\\") {
      source += char + pattern.source[++at];
    } else if (named) {
      names.push(named[1]);
      source += "(";
      at += named[0].length - 1;
    } else {
      if (char === "(" && !isClass && pattern.source[at + 1] !== "?") names.push(undefined);
      if (char === "[") isClass = true;
      if (char === "]") isClass = false;
      source += char;
    }
  }
  if (names.every((name) => name === undefined)) {
    throw new Error("pattern: it has no named group such as (?<level>[a-z]+)");
  }
  const whole = pattern.source.includes("\\k<") ? pattern.source : source;
  const flags = new Set(`${pattern.flags}d`);
  for (const flag of "gmy") flags.delete(flag);
  return { names, regex: new RegExp(`^(?:${utf8(whole)})$`, [...flags].join("")) };
}

