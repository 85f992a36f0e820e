/** Makes dist/ from src/; with --check says whether it is what the build makes, and changes nothing. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { version } = JSON.parse(readFileSync(here("package.json"), "utf8"));
const bundled = ["@noble/hashes", "@noble/ciphers"].map((name) => {
  const found = JSON.parse(readFileSync(here(`node_modules/${name}/package.json`), "utf8"));
  return `${name} ${found.version}:\n\n${readFileSync(here(`node_modules/${name}/LICENSE`), "utf8").trim()}`;
});
const banner = `/*! encmixer ${version}, Apache-2.0, of timm-encmixer. npm run build makes this file. It contains:\n\n${bundled.join("\n\n")}\n*/`;
const options = { format: "esm", target: "es2022", charset: "utf8", legalComments: "none", banner: { js: banner } };
const { outputFiles } = await build({
  entryPoints: ["src/index.js"],
  absWorkingDir: here("."),
  bundle: true,
  write: false,
  ...options,
});
const made = { "dist/encmixer.js": outputFiles[0].text, "dist/encmixer.d.ts": readFileSync(here("src/api.d.ts"), "utf8") };
for (const [path, text] of Object.entries(made)) {
  if (!process.argv.includes("--check")) {
    writeFileSync(here(path), text);
    console.log(`${path}: ${Buffer.byteLength(text)} bytes`);
  } else if (readFileSync(here(path), "utf8") !== text) {
    console.error(`${path}: not what \`npm run build\` makes; run it and commit the result`);
    process.exitCode = 1;
  }
}
