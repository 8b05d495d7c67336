// Asks whoever started this script to do something to the server: prints "@verb", waits for "done verb" on standard input.

import { createInterface } from "node:readline";
import { check, within } from "./check.js";

let lines;

export async function drive(verb) {
    check(process.env.DRIVER === "stdio", `this scenario needs a driver that answers "@${verb}"`);
    lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    process.stdout.write(`@${verb}\n`);
    const { value } = await within(lines.next(), `answer of the driver to @${verb}`, 60_000);
    check(value === `done ${verb}`, `the driver answered "${value}"`);
}

export function hangUp() {
    process.stdin.destroy();
}
