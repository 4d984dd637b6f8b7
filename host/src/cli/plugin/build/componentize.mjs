// From a JavaScript or TypeScript module to a component; run by `weir plugin build` with node.
//
// node componentize.mjs TOOLS ENTRY WIT WORLD MADE SDK
//
// TOOLS has a node_modules with esbuild and componentize-qjs; SDK has weir-plugin, for where the project's own
// node_modules has not. Writes MADE/plugin.wasm and MADE/describe.json.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [tools, entry, wit, world, made, sdk] = process.argv.slice(2);
const require = createRequire(join(tools, "package.json"));
const esbuild = require("esbuild");
const { componentize } = require("componentize-qjs");

/** One module of what a main module says. */
async function bundle(name, source, options) {
  const outfile = join(made, name);
  const result = await esbuild.build({
    stdin: { contents: source, resolveDir: resolve("."), sourcefile: name },
    bundle: true,
    format: "esm",
    target: "es2023",
    outfile,
    charset: "utf8",
    logLevel: "warning",
    nodePaths: [sdk],
    ...options,
  });
  return result.errors.length === 0 ? outfile : process.exit(1);
}

async function main() {
  const author = JSON.stringify(entry);
  const files = world.endsWith("with-files") ? 'import "weir-plugin/guest-files";' : "";
  const component = await bundle(
    "plugin.js",
    `import { processorOf } from "weir-plugin/guest"; ${files}
     import plugin from ${author};
     export const processor = processorOf(plugin);`,
    { external: ["weir:*"], platform: "neutral", mainFields: ["module", "main"], conditions: ["import"] },
  );
  // What it says of itself is asked outside of the sandbox.
  const describing = await bundle(
    "describe.mjs",
    `import { describe } from "weir-plugin/describe";
     import plugin from ${author};
     export default describe(plugin);`,
    { platform: "node" },
  );
  const { default: description } = await import(pathToFileURL(describing));
  const built = await componentize({
    witPath: wit,
    world,
    jsSource: readFileSync(component, "utf8"),
    stubWasi: true,
    sync: true,
  });
  writeFileSync(join(made, "plugin.wasm"), built.component);
  writeFileSync(join(made, "describe.json"), JSON.stringify(description));
}

try {
  await main();
} catch (error) {
  // esbuild has said what is wrong by itself.
  if (!error.errors) console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
