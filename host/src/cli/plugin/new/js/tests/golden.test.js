// Whole logs, with what weir makes of them.

import { test } from "node:test";
import { golden } from "weir-plugin/testing";
import Parser from "../index.js";

test("golden files", () => golden(Parser, "NAME", new URL("golden", import.meta.url).pathname));
