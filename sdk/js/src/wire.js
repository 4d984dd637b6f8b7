// The flat arrays that cross the sandbox's wall; see docs/contract.md.

/** The version of the contract that this SDK builds for. */
export const API_VERSION = "0.1";

/** The field of a raw line. */
export const CONTENT = "content";

/** Nanoseconds that mean "unknown". */
export const UNKNOWN_TIME = -(2n ** 63n);
