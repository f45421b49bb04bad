// Bundles the extension into one file, or with --test each test file, for Node 20 as VS Code ships it.
import { build } from "esbuild";
import { copyFileSync, readdirSync } from "node:fs";

const common = { bundle: true, platform: "node", target: "node20", logLevel: "warning" };

if (process.argv.includes("--test")) {
  const entryPoints = readdirSync("test").filter((name) => name.endsWith(".test.ts")).map((name) => `test/${name}`);
  await build({ ...common, entryPoints, outdir: "dist/test", format: "esm", outExtension: { ".js": ".mjs" } });
} else {
  copyFileSync("../../LICENSE", "LICENSE"); // the package must hold the licence, the repository needs it once
  await build({
    ...common,
    entryPoints: ["src/extension.ts"],
    outfile: "dist/extension.js",
    format: "cjs",
    external: ["vscode"],
    minify: true,
    sourcesContent: false,
  });
}
