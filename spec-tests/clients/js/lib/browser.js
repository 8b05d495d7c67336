// Debian's Chromium, driven without its own downloads; and the address that it is sent back to.

import { createServer } from "node:http";
import { existsSync, mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { check } from "./check.js";

const PROGRAMS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"];

/** A browser with one page; pictures of it go to the folder SCREENSHOTS, if there is one. */
export async function browser() {
    const running = await chromium.launch(program());
    const context = await running.newContext({ viewport: { width: 420, height: 760 } });
    const page = await context.newPage();
    return { page, context, picture: (name) => picture(page, name), close: () => running.close() };
}

/** What is started. */
export function program() {
    const executablePath = PROGRAMS.find((path) => path && existsSync(path));
    check(executablePath, "no Chromium: run spec-tests/clients/setup");
    return { executablePath, args: ["--no-sandbox", "--disable-gpu"] };
}

let pictures = 0;

/** Keeps a picture, if somebody wants them. */
export async function picture(page, name) {
    const folder = process.env.SCREENSHOTS;
    if (!folder) return;
    mkdirSync(folder, { recursive: true });
    await page.screenshot({ path: `${folder}/${String(++pictures).padStart(2, "0")}-${name}.png`, fullPage: true });
}

/** Where a client waits for its users to come back: what they come back with. */
export async function callback() {
    const came = Promise.withResolvers();
    const script = `fetch("/came", { method: "POST", body: location.hash.slice(1) || location.search.slice(1) })`;
    const server = createServer((request, response) => {
        if (request.method !== "POST") {
            response.setHeader("content-type", "text/html");
            response.end(`<!doctype html><title>client</title><p>Back.</p><script>${script}</script>`);
            return;
        }
        let body = "";
        request.on("data", (part) => (body += part));
        request.on("end", () => {
            response.end();
            came.resolve(new URLSearchParams(body));
        });
    });
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    const origin = `http://127.0.0.1:${server.address().port}`;
    return { origin, uri: `${origin}/back`, came: came.promise, close: () => server.close() };
}
