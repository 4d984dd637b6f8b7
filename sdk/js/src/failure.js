// Why an event could not be processed.

/** Why an event could not be processed. The host ships it unchanged, marked with this reason. */
export class Failure extends Error {
  constructor(reason) {
    super(reason);
    this.name = "Failure";
  }
}
