// A web client's own site: its script bundled, its assets as they lie in its package.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
};
const packages = fileURLToPath(new URL("../node_modules/", import.meta.url));

/** Hydrogen, set to the server under test. */
export function hydrogen() {
    const config = JSON.stringify({ defaultHomeServer: process.env.HS_URL });
    return site("hydrogen", {
        head: `<link rel="stylesheet" href="/assets/theme-element-light.css">`,
        body: `<body id="app" class="hydrogen"></body>`,
        folders: {
            "/assets/": `${packages}hydrogen-view-sdk/asset-build/assets/`,
            "/olm/": `${packages}@matrix-org/olm/`,
            "/sw.js": `${packages}hydrogen-view-sdk/lib-build/sw.js`,
        },
        files: { "/config.json": config },
    });
}

/** The small chat on matrix-js-sdk. */
export function chat() {
    const config = JSON.stringify({ homeserver: process.env.HS_URL });
    return site("chat", {
        head: `<style>body { font: 16px sans-serif; margin: 2em } .failed { color: red } .sending { color: gray }</style>`,
        body: "<body></body>",
        folders: { "/pkg/": `${packages}@matrix-org/matrix-sdk-crypto-wasm/pkg/` },
        files: { "/config.json": config },
    });
}

/** Serves `pages/NAME.js` on a loopback port, with the folders and files that it asks for. */
async function site(name, { head, body, folders, files }) {
    const bundle = await build({
        entryPoints: [fileURLToPath(new URL(`../pages/${name}.js`, import.meta.url))],
        bundle: true,
        format: "esm",
        target: "es2022",
        // Olm asks for them when it runs on Node.js.
        external: ["fs", "path", "crypto"],
        write: false,
        outdir: "/",
        logLevel: "error",
    });
    const made = {
        "/index.html": `<!doctype html><html lang="en"><meta charset="utf-8"><title>${name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">${head}
<script type="module" src="/${name}.js"></script>${body}</html>`,
        ...Object.fromEntries(bundle.outputFiles.map((file) => [file.path, file.contents])),
        ...files,
    };
    const server = createServer(async (request, response) => {
        const asked = new URL(request.url, "http://site").pathname;
        const pathname = asked === "/" ? "/index.html" : asked;
        const folder = Object.keys(folders).find((start) => pathname.startsWith(start));
        const content = made[pathname] ?? (folder && (await readFile(folders[folder] + pathname.slice(folder.length)).catch(() => null)));
        response.statusCode = content ? 200 : 404;
        response.setHeader("content-type", TYPES[extname(pathname)] ?? "application/octet-stream");
        response.setHeader("cache-control", "no-cache");
        response.end(content ?? "not here");
    });
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    const origin = `http://127.0.0.1:${server.address().port}`;
    return {
        origin,
        close() {
            server.close();
            server.closeAllConnections();
        },
    };
}
