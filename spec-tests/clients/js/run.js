// Runs the scenarios named on the command line, or all, against HS_URL. Prints "ok NAME" or "FAIL NAME: why" for each.

import { readdirSync } from "node:fs";
import { hangUp } from "./lib/driver.js";
import { within } from "./lib/check.js";

const SCENARIO_DEADLINE_MS = 180_000;

if (!process.env.HS_URL) {
    process.stdout.write("FAIL start: HS_URL is not set\n");
    process.exit(2);
}
for (const level of ["debug", "log", "info", "warn", "error", "trace"]) {
    console[level] = process.env.VERBOSE ? (...words) => process.stderr.write(`${words.join(" ")}\n`) : () => {};
}
let stray = null;
process.on("unhandledRejection", (error) => (stray ??= error));

const all = readdirSync(new URL("./scenarios/", import.meta.url))
    .filter((file) => file.endsWith(".js"))
    .map((file) => file.slice(0, -3))
    .sort();
const names = process.argv.length > 2 ? process.argv.slice(2) : all;

let passed = 0;
for (const name of names) {
    const started = performance.now();
    try {
        const { default: scenario } = await import(`./scenarios/${name}.js`);
        await within(scenario(), `end of the scenario`, SCENARIO_DEADLINE_MS);
        process.stdout.write(`ok ${name} (${Math.round(performance.now() - started)} ms)\n`);
        passed += 1;
    } catch (error) {
        const why = `${error?.message ?? error}`.replaceAll("\n", " ");
        process.stdout.write(`FAIL ${name}: ${why}\n`);
        if (process.env.VERBOSE || process.env.TRACE) process.stderr.write(`${error?.stack}\n`);
    }
    if (stray && process.env.VERBOSE) process.stderr.write(`stray rejection: ${stray.stack ?? stray}\n`);
    stray = null;
}
process.stdout.write(`${passed} passed, ${names.length - passed} failed\n`);
hangUp();
process.exit(passed === names.length ? 0 : 1);
