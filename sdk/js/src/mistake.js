// What is thrown where a plugin's author has made a mistake.

/** An error whose stack begins where `thrower`, a function of the SDK, was called: that is the author's line. */
export function mistake(message, thrower, Kind = Error) {
  const error = new Kind(message);
  Error.captureStackTrace?.(error, thrower);
  return error;
}
