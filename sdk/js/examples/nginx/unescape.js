// Undoing what nginx's `escape=default` and `escape=json` do.

const ESCAPE = /\\(?:(["\\/nrtbf])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))/g;
const LETTERS = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };

/** The value, one character for each byte, with its escapes undone; what is no escape stays. */
export function unescape(value) {
  return value.replace(ESCAPE, (escape, letter, byte, code) => {
    if (letter !== undefined) return LETTERS[letter] ?? letter;
    if (byte !== undefined) return String.fromCharCode(parseInt(byte, 16));
    const point = parseInt(code, 16);
    return point >= 0xd800 && point < 0xe000 ? escape : utf8(point);
  });
}

function utf8(point) {
  const tail = (bits) => 0x80 | ((point >> bits) & 0x3f);
  if (point < 0x80) return String.fromCharCode(point);
  if (point < 0x800) return String.fromCharCode(0xc0 | (point >> 6), tail(0));
  return String.fromCharCode(0xe0 | (point >> 12), tail(6), tail(0));
}
