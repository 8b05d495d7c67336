// A removed device is out at once, and gets nothing more; the others keep their history.

import { check, same } from "../lib/check.js";
import { end, talk, world } from "../lib/world.js";

const WHOAMI = "/_matrix/client/v3/account/whoami";

export default async function () {
    const { phone, laptop, bob, id } = await world();
    const said = [];
    await talk([bob, phone, laptop], id, said, 12, "shared");
    await phone.byPassword((auth) => phone.client.deleteDevice(laptop.deviceId, auth ?? undefined));

    const whoami = await laptop.raw("GET", WHOAMI);
    same([whoami.status, whoami.body.errcode], [401, "M_UNKNOWN_TOKEN"], "whoami of the removed device");
    check(!whoami.body.soft_logout, "the removed device was told to log in softly");
    const sync = await laptop.raw("GET", "/_matrix/client/v3/sync?timeout=0");
    same([sync.status, sync.body.errcode], [401, "M_UNKNOWN_TOKEN"], "sync of the removed device");
    await laptop.until("end of the running sync", () => laptop.loggedOut);
    same(laptop.loggedOut.errcode, "M_UNKNOWN_TOKEN", "the running sync");

    const devices = (await phone.client.getDevices()).devices.map((d) => d.device_id);
    same(devices, [phone.deviceId], "devices left");
    await bob.until("the shorter device list", async () => {
        const known = await bob.crypto.getUserDeviceInfo([phone.userId]);
        return known.get(phone.userId)?.size === 1;
    });
    said.push("without the laptop");
    await bob.say(id, said.at(-1));
    for (const device of [phone, bob]) {
        await device.until("message", () => device.bodies(id).includes(said.at(-1)));
        same(await device.wholeHistory(id), said, `history of ${device.name}`);
    }
    laptop.client.stopClient();
    await end(phone, bob);
}
