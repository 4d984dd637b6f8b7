// Bytes and text. The sandbox has no TextDecoder, and its regular expressions know no bytes, so bytes are kept as
// binary strings: one character, from 0 to 255, for each. All of this is done outside of the interpreter.

const node = globalThis.Buffer;
const NOT_ASCII = /[^\x00-\x7f]/;

/** A binary string of bytes. */
export function binary(bytes) {
  return node ? node.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1") : atob(bytes.toBase64());
}

/** The bytes of a binary string. */
export function bytesOf(binary) {
  return node ? new Uint8Array(node.from(binary, "latin1")) : Uint8Array.fromBase64(btoa(binary));
}

/** The UTF-8 of a text, as a binary string. Half a surrogate pair becomes U+FFFD. */
export function utf8(text) {
  return NOT_ASCII.test(text) ? unescape(encodeURIComponent(text.toWellFormed())) : text;
}

/** The text of a binary string; `undefined` if it is not UTF-8. */
export function textOf(binary) {
  if (!NOT_ASCII.test(binary)) return binary;
  try {
    return decodeURIComponent(escape(binary));
  } catch {
    return undefined;
  }
}

/** The UTF-8 of a text. */
export function encode(text) {
  return bytesOf(utf8(text));
}

/** The text of bytes; `undefined` if they are not UTF-8. */
export function decode(bytes) {
  return textOf(binary(bytes));
}
