// From the ways in which logs write a time to nanoseconds since the Unix epoch, as BigInts. A time without a zone is
// taken as UTC.

const SECOND = 1_000_000_000n;
const MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec";
const LIMIT = 2n ** 63n;

// In the sandbox, the global one becomes a slower one that refuses to say what time it is.
const OwnDate = Date;

function nanoseconds(year, month, day, hour, minute, second, offset, fraction) {
  if (hour > 23 || minute > 59 || second > 60) return undefined;
  const date = new OwnDate(0);
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  // A leap second is the next second's start.
  const seconds = date.getTime() / 1000 + hour * 3600 + minute * 60 + second - offset;
  const time = BigInt(seconds) * SECOND + BigInt((fraction ?? "0").slice(0, 9).padEnd(9, "0"));
  return time > -LIMIT && time < LIMIT ? time : undefined;
}

function offsetOf(sign, hours, minutes) {
  if (sign === undefined) return 0;
  if (hours > 23 || minutes > 59) return undefined;
  const seconds = hours * 3600 + minutes * 60;
  return sign === "-" ? -seconds : seconds;
}

const CLF = /^([0-9]{2})\/([A-Za-z]{3})\/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})$/;

/** nginx's and Apache's `02/Jan/2006:15:04:05 -0700`. */
export function parseClf(text) {
  const match = CLF.exec(text);
  if (match === null) return undefined;
  const [, day, name, year, hour, minute, second, sign, hours, minutes] = match;
  const month = MONTHS.indexOf(name.toLowerCase());
  const offset = offsetOf(sign, +hours, +minutes);
  if (month < 0 || month % 3 !== 0 || offset === undefined) return undefined;
  return nanoseconds(+year, month / 3 + 1, +day, +hour, +minute, +second, offset);
}

const RFC3339 =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?$/;

/** RFC 3339 and the common ways to write ISO 8601. */
export function parseRfc3339(text) {
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction, sign, hours, minutes] = match;
  const offset = offsetOf(sign, +hours, +minutes);
  if (offset === undefined) return undefined;
  return nanoseconds(+year, +month, +day, +hour, +minute, +second, offset, fraction);
}

function unix(unit) {
  return (text) => {
    const match = text.length < 40 ? /^(-?)([0-9]+)(?:\.([0-9]+))?$/.exec(text) : null;
    if (match === null) return undefined;
    const [, sign, whole, fraction] = match;
    const part = (BigInt((fraction ?? "0").slice(0, 9).padEnd(9, "0")) * unit) / SECOND;
    const value = BigInt(whole) * unit + part;
    if (value >= LIMIT) return undefined;
    return sign ? -value : value;
  };
}

const FORMATS = {
  clf: parseClf,
  rfc3339: parseRfc3339,
  unix: unix(SECOND),
  unix_ms: unix(1_000_000n),
  unix_us: unix(1000n),
  unix_ns: unix(1n),
};

/** What reads times of a format. It remembers the last text: many lines have the time of the line before. */
export function timeReader(format) {
  if (!Object.hasOwn(FORMATS, format)) {
    throw new Error(`time format \`${format}\` is not known: use one of ${Object.keys(FORMATS).join(", ")}`);
  }
  const parse = FORMATS[format];
  let last;
  let time;
  return (text) => {
    if (text !== last) {
      time = parse(text);
      last = text;
    }
    return time;
  };
}

/** Nanoseconds since the epoch as RFC 3339 in UTC, with as many digits of a fraction as are needed. */
export function formatRfc3339(nanoseconds) {
  let seconds = nanoseconds / SECOND;
  let fraction = nanoseconds % SECOND;
  if (fraction < 0n) {
    fraction += SECOND;
    seconds -= 1n;
  }
  const digits = fraction === 0n ? "" : `.${String(fraction).padStart(9, "0").replace(/0+$/, "")}`;
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, -5)}${digits}Z`;
}
