// For plugins whose package.json says that they read files.

import { read } from "weir:plugin/files@0.1.0";
import { host } from "./host.js";

host.readFile = (path) => {
  try {
    return read(path);
  } catch (error) {
    throw new Error(error instanceof Error ? error.message : String(error));
  }
};
