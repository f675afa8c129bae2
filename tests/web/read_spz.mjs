// The reference library of SPZ on one file: node read_spz.mjs FOLDER_OF_NODE_MODULES FILE AXES prints its arrays as JSON, in RUB or RDF.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, file, axes] = process.argv.slice(2);
const { default: create } = await import(pathToFileURL(createRequire(`${folder}/x.js`).resolve("@adobe/spz")));
const library = await create({ print() {}, printErr() {} });
const cloud = library.loadSpzFromBuffer(new Uint8Array(readFileSync(file)), { to: library.CoordinateSystem[axes] });
const arrays = ["positions", "scales", "rotations", "alphas", "colors", "sh"].map(name => [name, Array.from(cloud[name])]);
process.stdout.write(JSON.stringify({ count: cloud.numPoints, degree: cloud.shDegree, ...Object.fromEntries(arrays) }));
