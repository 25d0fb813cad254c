// SPDX-License-Identifier: MIT
//
// The side of piscina, a pool of Node's worker_threads. Items are handed over in four chunks a worker, since a task of
// piscina's is a message; or each alone where the case says so.
//
//     node piscina.mjs CASE SIZE WORKERS FOLDER      FOLDER: where piscina is installed
//
// Answers "about" and "turn" as side.lua does. The threads run this file as well: then it exports what they do.

import { execSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { isMainThread } from "node:worker_threads";

const CHUNKS = 4;

// ---- what is mapped: the functions of the workloads in JavaScript ----------------------------------------------------

function row(imaginary) {
  let total = 0;
  for (let x = 0; x < 600; x++) {
    const real = x * (3 / 600) - 2.25;
    let zr = 0, zi = 0, steps = 0;
    while (steps < 255 && zr * zr + zi * zi <= 4) {
      [zr, zi] = [zr * zr - zi * zi + real, 2 * zr * zi + imaginary];
      steps++;
    }
    total += steps;
  }
  return total;
}

function ensemble(seed) {
  let state = seed * 7919 + 1;
  const draw = () => (state = (state * 48271) % 2147483647) / 2147483647;
  return Array.from({ length: 5 }, () => {
    const [x, y, z] = [draw() * 10, draw() * 10, draw() * 10];
    const [vx, vy, vz] = [draw() - 0.5, draw() - 0.5, draw() - 0.5];
    return { x, y, z, vx, vy, vz, mass: draw() + 0.5 };
  });
}

function attract(a, b) {
  const dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
  const square = dx * dx + dy * dy + dz * dz + 0.01;
  const pull = 0.001 / (square * Math.sqrt(square));
  const ofA = a.mass * pull, ofB = b.mass * pull;
  a.vx -= dx * ofB;
  a.vy -= dy * ofB;
  a.vz -= dz * ofB;
  b.vx += dx * ofA;
  b.vy += dy * ofA;
  b.vz += dz * ofA;
}

function energy(bodies) {
  let sum = 0;
  for (let i = 0; i < 5; i++) {
    const a = bodies[i];
    sum += (a.mass * (a.vx * a.vx + a.vy * a.vy + a.vz * a.vz)) / 2;
    for (let j = i + 1; j < 5; j++) {
      const b = bodies[j];
      const dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
      sum -= (a.mass * b.mass) / Math.sqrt(dx * dx + dy * dy + dz * dz);
    }
  }
  return sum;
}

function simulate(seed) {
  const bodies = ensemble(seed);
  for (let step = 0; step < 1000; step++) {
    for (let i = 0; i < 5; i++) for (let j = i + 1; j < 5; j++) attract(bodies[i], bodies[j]);
    for (const body of bodies) {
      body.x += 0.001 * body.vx;
      body.y += 0.001 * body.vy;
      body.z += 0.001 * body.vz;
    }
  }
  return energy(bodies);
}

function count(path) {
  const counts = new Map();
  for (const [word] of readFileSync(path, "latin1").matchAll(/[A-Za-z]+/g)) {
    const lower = word.toLowerCase();
    counts.set(lower, (counts.get(lower) ?? 0) + 1);
  }
  return counts;
}

function work(weight) {
  let x = 1;
  for (let i = weight * 300; i > 0; i--) x = (x * 16807) % 2147483647;
  return x;
}

const same = (value) => value;
const square = (x) => x * x;
const total = (list) => list.reduce((sum, x) => sum + x, 0);

function squarePart({ from, into, first, last }) {
  const source = new Float64Array(from), target = new Float64Array(into);
  for (let i = first; i < last; i++) target[i] = source[i] * source[i];
}

function sumPart({ memory, first, last }) {
  const doubles = new Float64Array(memory);
  let sum = 0;
  for (let i = first; i < last; i++) sum += doubles[i];
  return sum;
}

const functions = { row, simulate, count, work, same, square, total, squarePart, sumPart };

export default function task({ name, items }) {
  return items.map(functions[name]);
}

// ---- items, and one number for the results, as the workloads make them -----------------------------------------------

const list = (n, make) => Array.from({ length: n }, (_, i) => make(i + 1));
const oneTo = (n) => list(n, same);
const sumBy = (term) => (results) => results.reduce((sum, y, i) => sum + term(y, i + 1), 0);
const weighted = sumBy((y, i) => (y % 65521) * (i % 7));
const bySeven = sumBy((y, i) => y * (i % 7));
const byIndex = sumBy((y, i) => y * i);

function paths(n) {
  const command = `find /usr/include/linux -type f -name '*.h' | LC_ALL=C sort | head -n ${n}`;
  return execSync(command, { encoding: "utf8" }).split("\n").filter(Boolean);
}

function addUp(results) {
  const all = new Map();
  for (const counts of results) for (const [word, times] of counts) all.set(word, (all.get(word) ?? 0) + times);
  return all;
}

const checkWords = (all) => [...all].reduce((sum, [word, times]) => sum + times * word.length, 0) * 1000000 + all.size;
const strings = (n) => list(n, (i) => String(i).padStart(10, "0") + "0123456789".repeat(99999));
const checkStrings = sumBy((text) => (Number(text.slice(0, 10)) + text.charCodeAt(text.length - 1)) * text.length);
const lists = (n) => list(n, (i) => list(1000, (k) => i + k / 8));
const checkLists = sumBy((v, i) => v.length + v[0] + v[499] * 2 + v[999] * (i % 7));

const records = (n) =>
  list(n, (i) => ({
    id: i,
    name: "name" + String(i).padStart(6, "0"),
    score: i / 8,
    tags: [`tag${i % 10}`, `tag${i % 7}`, `tag${i % 3}`],
  }));

const checkRecords = sumBy((r, i) => r.id + r.score * (i % 7) + Number(r.name.slice(4)) + r.tags[2].charCodeAt(3));

function scattered(n) {
  let state = 11;
  return list(n, () => ((state = (state * 48271) % 2147483647) % 1000 === 0 ? 1000 : 1));
}

// ---- cases -----------------------------------------------------------------------------------------------------------

const [name, sizeText, workersText, folder] = process.argv.slice(2);
const size = Number(sizeText), workers = Number(workersText);

async function openPool() {
  const { Piscina } = createRequire(folder + "/")("piscina");
  return new Piscina({ filename: import.meta.url, minThreads: workers, maxThreads: workers, idleTimeout: 3600000 });
}

async function mapBy(pool, length, fn, items) {
  const tasks = [];
  for (let i = 0; i < items.length; i += length) tasks.push(pool.run({ name: fn, items: items.slice(i, i + length) }));
  return (await Promise.all(tasks)).flat();
}

const fair = (items) => Math.max(1, Math.ceil(items.length / workers / CHUNKS));

function mapping(fn, make, check, { length, finish = same } = {}) {
  return async () => {
    const items = make(size), pool = await openPool();
    const run = async () => finish(await mapBy(pool, length ?? fair(items), fn, items));
    return { pool, run, check };
  };
}

/** Parts of shared memory, one a worker. */
function parts(make) {
  return list(workers, (i) => ({
    ...make,
    first: Math.floor(((i - 1) * size) / workers),
    last: Math.floor((i * size) / workers),
  }));
}

const shared = (fill) => {
  const memory = new SharedArrayBuffer(size * 8), doubles = new Float64Array(memory);
  for (let i = 0; i < size; i++) doubles[i] = fill(i + 1);
  return memory;
};

// As often as the workload says.
const AGAIN = 20;

const buffer = (times) => async () => {
  const from = shared(same), into = shared(() => 0), pool = await openPool();
  const run = async () => {
    for (let i = 0; i < times; i++) await mapBy(pool, 1, "squarePart", parts({ from, into }));
    return new Float64Array(into);
  };
  return { pool, run, check: weighted };
};

async function array() {
  const memory = shared((i) => i % 1000), pool = await openPool();
  return { pool, run: async () => total(await mapBy(pool, 1, "sumPart", parts({ memory }))), check: same };
}

async function pools() {
  let results;
  const run = async () => {
    for (let i = 0; i < size; i++) {
      const pool = await openPool();
      results = await mapBy(pool, 5, "square", oneTo(10));
      await pool.destroy();
    }
    return results;
  };
  return { run, check: byIndex };
}

async function calls() {
  const items = oneTo(100), pool = await openPool();
  let results;
  const run = async () => {
    for (let i = 0; i < size; i++) results = await mapBy(pool, 50, "square", items);
    return results;
  };
  return { pool, run, check: byIndex };
}

const cases = {
  "squares.list": mapping("square", oneTo, weighted),
  "squares.buffer": buffer(1),
  "squares.again": buffer(AGAIN),
  "squares.single": mapping("square", oneTo, weighted, { length: 1 }),
  "mandelbrot.rows": mapping("row", (n) => list(n, (y) => (y - 1) * (2.4 / n) - 1.2), bySeven, { length: 8 }),
  "bodies.ensembles": mapping("simulate", oneTo, byIndex, { length: 1 }),
  "words.headers": mapping("count", paths, checkWords, { length: 8, finish: addUp }),
  "payloads.strings": mapping("same", strings, checkStrings),
  "payloads.lists": mapping("same", lists, checkLists),
  "payloads.sums": mapping("total", lists, bySeven),
  "payloads.records": mapping("same", records, checkRecords),
  "uneven.scattered": mapping("work", scattered, bySeven),
  "start.pool": pools,
  "calls.small": calls,
  "sum.array": array,
};

async function turn({ run, check }) {
  globalThis.gc?.();
  const start = process.hrtime.bigint();
  const results = await run();
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  return `seconds=${seconds} check=${check(results)}`;
}

async function main() {
  const side = await cases[name]();
  const { version: own } = JSON.parse(readFileSync(`${folder}/node_modules/piscina/package.json`, "utf8"));
  const version = `piscina ${own}, Node ${process.version}`;
  for await (const request of createInterface({ input: process.stdin })) {
    console.log(request === "turn" ? await turn(side) : `pid=${process.pid} version=${version}`);
  }
  await side.pool?.destroy();
}

if (isMainThread) await main();
