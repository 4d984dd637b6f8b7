// The sandbox has no clock: what asks for the time ends the instance, without a word.

import { mistake } from "./mistake.js";

const NONE = "there is no clock in the sandbox: take an event's time from its line, or from `event.time`";

/** `Date` without the present: asking for it throws an error. */
export function withoutClock(Own) {
  const Clockless = new Proxy(Own, {
    construct: function construct(target, values, own) {
      if (values.length === 0) throw mistake(NONE, construct);
      return Reflect.construct(target, values, own);
    },
    apply: function apply() {
      throw mistake(NONE, apply);
    },
  });
  Own.now = function now() {
    throw mistake(NONE, now);
  };
  Own.prototype.constructor = Clockless;
  return Clockless;
}
