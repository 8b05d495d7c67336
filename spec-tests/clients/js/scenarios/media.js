// An avatar with thumbnails, and an encrypted attachment that the other user reads.

import { webcrypto } from "node:crypto";
import { check, same, within } from "../lib/check.js";
import { png } from "../lib/png.js";
import { end, world } from "../lib/world.js";

export default async function () {
    const { phone, bob, devices, id } = await world();
    const picture = png(640, 400);

    const limit = (await phone.client.getMediaConfig(true))["m.upload.size"];
    check(limit >= 1024 * 1024, `uploads are limited to ${limit} bytes`);

    const { content_uri: uri } = await within(
        phone.client.uploadContent(new Blob([picture], { type: "image/png" }), { name: "ein Bild.png", type: "image/png" }),
        "upload",
    );
    const whole = await get(bob, uri);
    same([whole.status, whole.headers.get("content-type")], [200, "image/png"], "download");
    check(Buffer.from(await whole.arrayBuffer()).equals(picture), "the download is not what was uploaded");
    check(whole.headers.get("content-disposition").startsWith("inline; filename="), "the disposition names no file");
    for (const [width, height, method, expected] of [[96, 96, "crop", [96, 96]], [320, 240, "scale", [320, 200]]]) {
        const small = await get(bob, uri, width, height, method);
        same([small.status, small.headers.get("content-type")], [200, "image/png"], `thumbnail ${method}`);
        const bytes = Buffer.from(await small.arrayBuffer());
        same([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], expected, `size of the thumbnail ${method}`);
    }
    const open = await fetch(phone.client.mxcUrlToHttp(uri));
    same(open.status, 404, "download without a token");

    const secret = Buffer.from("nobody on the server reads this");
    const key = await webcrypto.subtle.generateKey({ name: "AES-CTR", length: 256 }, true, ["encrypt", "decrypt"]);
    const counter = Buffer.concat([webcrypto.getRandomValues(new Uint8Array(8)), Buffer.alloc(8)]);
    const parameters = { name: "AES-CTR", counter, length: 64 };
    const sealed = Buffer.from(await webcrypto.subtle.encrypt(parameters, key, secret));
    const upload = await phone.client.uploadContent(new Blob([sealed]), { type: "application/octet-stream" });
    const { event_id: eventId } = await phone.client.sendEvent(id, "m.room.message", {
        msgtype: "m.file",
        body: "secret.txt",
        file: { v: "v2", url: upload.content_uri, key: await webcrypto.subtle.exportKey("jwk", key), iv: counter.toString("base64") },
    });
    const { file } = (await bob.event(id, eventId)).getContent();
    const got = await get(bob, file.url);
    same(got.headers.get("content-type"), "application/octet-stream", "type of an encrypted file");
    const imported = await webcrypto.subtle.importKey("jwk", file.key, "AES-CTR", false, ["decrypt"]);
    const opened = await webcrypto.subtle.decrypt(
        { name: "AES-CTR", counter: Buffer.from(file.iv, "base64"), length: 64 },
        imported,
        Buffer.from(await got.arrayBuffer()),
    );
    same(Buffer.from(opened).toString(), secret.toString(), "the decrypted attachment");
    await end(...devices);
}

/** What `device` gets for `uri`, as clients ask since version 1.11. */
function get(device, uri, width, height, method) {
    const url = device.client.mxcUrlToHttp(uri, width, height, method, false, true, true);
    check(url.includes("/_matrix/client/v1/media/"), `${url} is no authenticated address`);
    return within(fetch(url, { headers: { Authorization: `Bearer ${device.session.access_token}` } }), `GET ${url}`);
}
