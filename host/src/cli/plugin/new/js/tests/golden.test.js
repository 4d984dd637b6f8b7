// Whole logs, with what weir makes of them.

import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { golden } from "weir-plugin/testing";
import Parser from "../index.js";

test("golden files", () => golden(Parser, "NAME", fileURLToPath(new URL("golden", import.meta.url))));
