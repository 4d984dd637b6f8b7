// What a plugin says of itself; run by `weir plugin build`.

import { pluginOf } from "./plugin.js";
import { API_VERSION } from "./wire.js";

/** The version of the contract and the schema of the settings, of the default export of the author's module. */
export function describe(exported) {
  return { api: API_VERSION, settings: pluginOf(exported).settings.schema };
}
