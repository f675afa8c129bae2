// Khronos' glTF validator on some files: node validate_glb.mjs FOLDER_OF_NODE_MODULES FILE... prints [[errors, warnings, messages], ...].
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, ...files] = process.argv.slice(2);
const validator = createRequire(`${folder}/x.js`)("gltf-validator");
const found = [];
for (const file of files) {
  const { issues } = await validator.validateBytes(new Uint8Array(readFileSync(file)), { maxIssues: 100 });
  found.push([issues.numErrors, issues.numWarnings, issues.messages.map(message => `${message.code} ${message.pointer}: ${message.message}`)]);
}
console.log(JSON.stringify(found));
